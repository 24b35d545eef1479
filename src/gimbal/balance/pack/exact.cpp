#include "gimbal/balance/pack/exact.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "gimbal/base/error.h"

namespace gimbal {
namespace {

constexpr std::uint64_t kMaxSteps = 2'000'000;

__extension__ using WideSum = unsigned __int128;

class ExactSearch {
 public:
  ExactSearch(const PackLimits& limits, std::span<const std::uint32_t> order, std::uint64_t known)
      : dims_(static_cast<std::size_t>(limits.count())), fewest_(known) {
    std::vector<double> size;
    for (const std::uint32_t sample : order) {
      GIMBAL_CHECK(limits.fits_alone(sample), "sample ", sample, " does not fit into a pack");
      double sum = 0;
      for (int l = 0; l < limits.count(); ++l)
        sum += static_cast<double>(limits.demand(sample, l)) / static_cast<double>(limits.cap(l));
      size.push_back(sum);
    }
    std::vector<std::size_t> by_size(order.size());
    std::iota(by_size.begin(), by_size.end(), std::size_t{0});
    std::stable_sort(by_size.begin(), by_size.end(),
                     [&](std::size_t a, std::size_t b) { return size[a] > size[b]; });
    for (const std::size_t i : by_size) {
      samples_.push_back(order[i]);
      for (int l = 0; l < limits.count(); ++l) demand_.push_back(limits.demand(order[i], l));
    }
    for (int l = 0; l < limits.count(); ++l) caps_.push_back(limits.cap(l));
    rest_.assign((samples_.size() + 1) * dims_, 0);
    for (std::size_t i = samples_.size(); i-- > 0;) {
      for (std::size_t d = 0; d < dims_; ++d)
        rest_[i * dims_ + d] = rest_[(i + 1) * dims_ + d] + demand_[i * dims_ + d];
    }
    place_.resize(samples_.size());
  }

  void run() { put(0); }
  bool proven() const { return steps_ < kMaxSteps; }
  std::optional<Packs> result() const {
    if (best_.empty()) return std::nullopt;
    std::vector<std::vector<std::uint32_t>> packs(fewest_);
    for (std::size_t i = 0; i < samples_.size(); ++i) packs[best_[i]].push_back(samples_[i]);
    Packs out;
    for (const auto& pack : packs) out.add(pack);
    return out;
  }

 private:
  using Room = std::vector<std::uint64_t>;

  // Whether the samples from `index` on need so much volume that `fewest_` packs are reached.
  bool hopeless(std::size_t index) const {
    for (std::size_t d = 0; d < dims_; ++d) {
      WideSum room = 0;
      for (const Room& pack : rooms_) room += pack[d];
      const WideSum rest = rest_[index * dims_ + d];
      if (rest <= room) continue;
      const WideSum more = (rest - room + caps_[d] - 1) / caps_[d];
      if (rooms_.size() + static_cast<std::uint64_t>(more) >= fewest_) return true;
    }
    return rooms_.size() >= fewest_;
  }

  bool enters(std::size_t index, const Room& room) const {
    for (std::size_t d = 0; d < dims_; ++d) {
      if (demand_[index * dims_ + d] > room[d]) return false;
    }
    return true;
  }

  void put(std::size_t index) {
    if (hopeless(index) || ++steps_ >= kMaxSteps) return;
    if (index == samples_.size()) {
      fewest_ = rooms_.size();
      best_ = place_;
      return;
    }
    for (std::size_t p = 0; p < rooms_.size() && steps_ < kMaxSteps; ++p) {
      // Packs with equal room lead to equal packings.
      const bool seen = std::find(rooms_.begin(), rooms_.begin() + static_cast<std::ptrdiff_t>(p),
                                  rooms_[p]) != rooms_.begin() + static_cast<std::ptrdiff_t>(p);
      if (seen || !enters(index, rooms_[p])) continue;
      move(index, p, -1);
      put(index + 1);
      move(index, p, +1);
    }
    rooms_.push_back(caps_);
    move(index, rooms_.size() - 1, -1);
    put(index + 1);
    rooms_.pop_back();
  }

  void move(std::size_t index, std::size_t pack, int sign) {
    place_[index] = pack;
    for (std::size_t d = 0; d < dims_; ++d) {
      const std::uint64_t demand = demand_[index * dims_ + d];
      rooms_[pack][d] = sign < 0 ? rooms_[pack][d] - demand : rooms_[pack][d] + demand;
    }
  }

  std::size_t dims_;
  std::uint64_t fewest_;
  std::vector<std::uint32_t> samples_;
  std::vector<std::uint64_t> demand_;  // [sample, limit]
  std::vector<std::uint64_t> caps_;
  std::vector<WideSum> rest_;  // [sample, limit]: sum from this sample on
  std::vector<Room> rooms_;
  std::vector<std::size_t> place_, best_;
  std::uint64_t steps_ = 0;
};

}  // namespace

std::optional<Packs> exact_packs(const PackLimits& limits, std::span<const std::uint32_t> order,
                                 std::uint64_t known_packs, bool* proven) {
  ExactSearch search(limits, order, known_packs);
  search.run();
  if (proven != nullptr) *proven = search.proven();
  return search.result();
}

}  // namespace gimbal
