// The fewest packs, by trying everything: for tests on about a dozen samples.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "gimbal/balance/limits.h"
#include "gimbal/base/error.h"

namespace gimbal::testing {

/// Branch and bound: each sample goes into an open pack or opens one, the largest first. Exact and
/// independent of the code under test.
class BruteForcePacker {
 public:
  static constexpr std::size_t kMostSamples = 16;

  BruteForcePacker(const PackLimits& limits, std::span<const std::uint32_t> order)
      : num_limits_(static_cast<std::size_t>(limits.count())) {
    for (const std::uint32_t sample : order) {
      if (!limits.fits_alone(sample)) {
        ++alone_;
        continue;
      }
      std::vector<std::uint64_t> demands;
      for (int l = 0; l < limits.count(); ++l) demands.push_back(limits.demand(sample, l));
      items_.push_back(std::move(demands));
    }
    GIMBAL_CHECK_LE(items_.size(), kMostSamples, "brute force is for few samples");
    // A cap above the sum of all demands limits nothing; lowered, no sum below overflows.
    rest_.assign(num_limits_, 0);
    for (const auto& item : items_) {
      for (std::size_t l = 0; l < num_limits_; ++l) rest_[l] += item[l];
    }
    for (int l = 0; l < limits.count(); ++l) {
      const std::uint64_t total = rest_[static_cast<std::size_t>(l)];
      caps_.push_back(std::max<std::uint64_t>(1, std::min(limits.cap(l), total)));
    }
    std::sort(items_.begin(), items_.end(), [this](const auto& x, const auto& y) {
      const double size_x = share(x), size_y = share(y);
      return size_x != size_y ? size_x > size_y : x > y;
    });
  }

  std::uint64_t solve() {
    best_ = items_.size();
    pack_of_.assign(items_.size(), 0);
    place(0);
    return best_ + alone_;
  }

 private:
  using Demands = std::vector<std::uint64_t>;

  double share(const Demands& item) const {
    double sum = 0;
    for (std::size_t l = 0; l < num_limits_; ++l) {
      sum += static_cast<double>(item[l]) / static_cast<double>(caps_[l]);
    }
    return sum;
  }

  bool fits(const Demands& item, const Demands& room) const {
    for (std::size_t l = 0; l < num_limits_; ++l) {
      if (item[l] > room[l]) return false;
    }
    return true;
  }

  // Packs that are needed at least for what is not placed yet, by volume.
  std::uint64_t needed() const {
    std::uint64_t most = rooms_.size();
    for (std::size_t l = 0; l < num_limits_; ++l) {
      std::uint64_t room = 0;
      for (const Demands& r : rooms_) room += r[l];
      if (rest_[l] > room) {
        most = std::max(most, rooms_.size() + (rest_[l] - room + caps_[l] - 1) / caps_[l]);
      }
    }
    return most;
  }

  void place(std::size_t i) {
    if (i == items_.size()) {
      best_ = std::min<std::uint64_t>(best_, rooms_.size());
      return;
    }
    if (needed() >= best_) return;
    const Demands& item = items_[i];
    for (std::size_t l = 0; l < num_limits_; ++l) rest_[l] -= item[l];
    // Equal samples are interchangeable: the later one goes into the same or a later pack.
    const std::size_t first = i > 0 && items_[i - 1] == item ? pack_of_[i - 1] : 0;
    for (std::size_t p = first; p < rooms_.size(); ++p) {
      if (!fits(item, rooms_[p])) continue;
      for (std::size_t l = 0; l < num_limits_; ++l) rooms_[p][l] -= item[l];
      pack_of_[i] = p;
      place(i + 1);
      for (std::size_t l = 0; l < num_limits_; ++l) rooms_[p][l] += item[l];
    }
    if (rooms_.size() + 1 < best_) {
      rooms_.push_back(caps_);
      for (std::size_t l = 0; l < num_limits_; ++l) rooms_.back()[l] -= item[l];
      pack_of_[i] = rooms_.size() - 1;
      place(i + 1);
      rooms_.pop_back();
    }
    for (std::size_t l = 0; l < num_limits_; ++l) rest_[l] += item[l];
  }

  std::size_t num_limits_;
  std::vector<Demands> items_;
  Demands caps_;
  Demands rest_;  // demand of the samples that are not placed yet
  std::vector<Demands> rooms_;
  std::vector<std::size_t> pack_of_;
  std::uint64_t best_ = 0;
  std::uint64_t alone_ = 0;
};

/// The fewest packs that hold every entry of `order`, of which at most 16 may fit into a pack.
/// Entries that do not fit alone count as one pack each. Any number of limits.
inline std::uint64_t fewest_packs(const PackLimits& limits, std::span<const std::uint32_t> order) {
  return BruteForcePacker(limits, order).solve();
}

}  // namespace gimbal::testing
