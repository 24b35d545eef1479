#include "gimbal/balance/pack.h"

#include <algorithm>
#include <limits>

#include "gimbal/base/error.h"

namespace gimbal {
namespace {

// Samples that are packed together. Large enough that nearly every gap finds its sample; an eighth
// of a small epoch, so that the companions of a sample change with the order.
constexpr std::size_t kMinWindow = 256;
constexpr std::size_t kMaxWindow = 4096;
// Sizes that differ by less than this share of a pack count as equal when samples are placed by
// size. The order decides among them: without it, samples of rare sizes would meet the same
// companions in every epoch.
constexpr std::uint64_t kSizeSteps = 32;
// The fullest share of a window's packs is final; the samples of the others meet the next window's
// samples.
constexpr double kFinalShare = 0.6;
constexpr std::uint32_t kNone = std::numeric_limits<std::uint32_t>::max();

// One thing that is limited: the rows of a stream, or the number of samples.
struct Limit {
  int stream;  // -1: number of samples
  std::uint64_t cap;
  std::uint64_t weight;  // of one row in the fill of a pack
};

class WindowPacker {
 public:
  WindowPacker(const SampleSizes& sizes, const PackCaps& caps, std::span<const std::uint32_t> order)
      : sizes_(sizes), order_(order) {
    add_limits(caps);
  }

  Packs run() {
    packs_.samples.reserve(order_.size());
    const std::size_t window = std::clamp(order_.size() / 8, kMinWindow, kMaxWindow);
    std::size_t taken = 0;
    while (taken < order_.size() || !pool_.empty()) {
      while (pool_.size() < window && taken < order_.size()) pool_.push_back(order_[taken++]);
      pack_window();
      finish_packs(taken == order_.size());
    }
    return std::move(packs_);
  }

 private:
  struct Gap {
    std::uint64_t slack;  // weighted room that is left
    std::uint32_t pack;
    bool operator<(const Gap& other) const {
      return slack != other.slack ? slack < other.slack : pack < other.pack;
    }
  };
  struct Item {
    std::uint64_t size;  // weighted
    std::uint32_t sample;
    std::uint32_t next;  // in the same pack
  };

  // A stream's weight is its demand in packs: a gap in the scarcest stream is the dearest.
  // Integers, so that the order of additions cannot change a comparison.
  void add_limits(const PackCaps& caps) {
    std::vector<double> demand;
    double total = 0;
    const auto add = [&](int stream, std::uint64_t cap) {
      std::uint64_t rows = 0;
      for (const std::uint32_t sample : order_) rows += rows_of(sample, stream);
      // Caps above the sum of all rows limit nothing.
      limits_.push_back({stream, std::min(cap, std::max<std::uint64_t>(rows, 1)), 0});
      demand.push_back(static_cast<double>(rows) / static_cast<double>(cap));
      total += demand.back();
    };
    for (std::size_t k = 0; k < caps.rows.size(); ++k) {
      if (caps.rows[k] > 0) add(static_cast<int>(k), caps.rows[k]);
    }
    if (caps.samples > 0) add(-1, caps.samples);
    constexpr double kUnit = static_cast<double>(std::uint64_t{1} << 52);
    for (std::size_t l = 0; l < limits_.size(); ++l) {
      const double share =
          total > 0 ? demand[l] / total : 1.0 / static_cast<double>(limits_.size());
      limits_[l].weight =
          static_cast<std::uint64_t>(share * kUnit / static_cast<double>(limits_[l].cap));
      whole_ += limits_[l].weight * limits_[l].cap;
    }
  }

  std::uint64_t rows_of(std::uint32_t sample, int stream) const {
    return stream < 0 ? 1 : sizes_.at(sample, stream);
  }

  // Best fit decreasing: the largest sample first, each into the pack that it leaves fullest.
  void pack_window() {
    items_.clear();
    for (const std::uint32_t sample : pool_) {
      std::uint64_t size = 0;
      for (const Limit& limit : limits_) size += limit.weight * rows_of(sample, limit.stream);
      items_.push_back({size, sample, kNone});
    }
    const std::uint64_t step = whole_ / kSizeSteps + 1;
    std::stable_sort(items_.begin(), items_.end(), [step](const Item& x, const Item& y) {
      return x.size / step > y.size / step;
    });
    gaps_.clear();
    room_.clear();
    first_.clear();
    for (std::uint32_t i = 0; i < items_.size(); ++i) place(i);
  }

  void place(std::uint32_t index) {
    Item& item = items_[index];
    auto at = std::lower_bound(gaps_.begin(), gaps_.end(), Gap{item.size, 0});
    while (at != gaps_.end() && !fits(item.sample, at->pack)) ++at;
    Gap gap{};
    if (at == gaps_.end()) {
      gap = {whole_ - item.size, static_cast<std::uint32_t>(first_.size())};
      first_.push_back(kNone);
      for (const Limit& limit : limits_) room_.push_back(limit.cap);
      gaps_.insert(std::lower_bound(gaps_.begin(), gaps_.end(), gap), gap);
    } else {
      gap = {at->slack - item.size, at->pack};
      const auto to = std::lower_bound(gaps_.begin(), at, gap);
      std::move_backward(to, at, at + 1);
      *to = gap;
    }
    item.next = first_[gap.pack];
    first_[gap.pack] = index;
    for (std::size_t l = 0; l < limits_.size(); ++l) {
      room_[gap.pack * limits_.size() + l] -= rows_of(item.sample, limits_[l].stream);
    }
  }

  bool fits(std::uint32_t sample, std::uint32_t pack) const {
    for (std::size_t l = 0; l < limits_.size(); ++l) {
      if (room_[pack * limits_.size() + l] < rows_of(sample, limits_[l].stream)) return false;
    }
    return true;
  }

  void finish_packs(bool all) {
    const auto final_packs =
        all ? gaps_.size()
            : static_cast<std::size_t>(kFinalShare * static_cast<double>(gaps_.size())) + 1;
    pool_.clear();
    for (std::size_t g = 0; g < gaps_.size(); ++g) {
      auto& target = g < final_packs ? packs_.samples : pool_;
      for (std::uint32_t i = first_[gaps_[g].pack]; i != kNone; i = items_[i].next)
        target.push_back(items_[i].sample);
      if (g < final_packs) packs_.offsets.push_back(packs_.samples.size());
    }
  }

  const SampleSizes& sizes_;
  std::span<const std::uint32_t> order_;
  std::vector<Limit> limits_;
  std::uint64_t whole_ = 0;  // weighted size of an empty pack
  Packs packs_;
  std::vector<std::uint32_t> pool_;
  std::vector<Item> items_;
  std::vector<Gap> gaps_;             // of the window's packs, fullest first
  std::vector<std::uint64_t> room_;   // [pack, limit]
  std::vector<std::uint32_t> first_;  // per pack, its last placed item
};

void check_caps(const SampleSizes& sizes, const PackCaps& caps) {
  GIMBAL_CHECK_LE(caps.rows.size(), static_cast<std::size_t>(sizes.num_streams),
                  "caps for more streams than there are");
  bool any = caps.samples > 0;
  for (const std::uint64_t cap : caps.rows) any = any || cap > 0;
  GIMBAL_USER_CHECK(
      any,
      "balance: no cap is set, so one pack would hold every sample; set balance.text_cap, "
      "balance.vision_cap or balance.samples_per_pack");
}

void check_sample_fits(const SampleSizes& sizes, const PackCaps& caps,
                       std::span<const std::uint32_t> order) {
  constexpr std::size_t kListed = 10;
  std::vector<std::uint32_t> bad;
  for (const std::uint32_t sample : order) {
    GIMBAL_CHECK(sample < sizes.num_samples(), "sample ", sample, " of ", sizes.num_samples());
    for (std::size_t k = 0; k < caps.rows.size(); ++k) {
      if (caps.rows[k] > 0 && sizes.at(sample, static_cast<int>(k)) > caps.rows[k]) {
        bad.push_back(sample);
        break;
      }
    }
  }
  if (bad.empty()) return;
  std::sort(bad.begin(), bad.end());
  bad.erase(std::unique(bad.begin(), bad.end()), bad.end());
  std::string list;
  for (std::size_t i = 0; i < std::min(bad.size(), kListed); ++i) {
    list += concat("\n  sample ", bad[i], ":");
    for (std::size_t k = 0; k < caps.rows.size(); ++k) {
      const std::uint32_t rows = sizes.at(bad[i], static_cast<int>(k));
      if (caps.rows[k] > 0 && rows > caps.rows[k]) {
        list += concat(" ", rows, " rows in stream ", k, " (cap ", caps.rows[k], ")");
      }
    }
  }
  if (bad.size() > kListed) list += concat("\n  and ", bad.size() - kListed, " more");
  throw UserError(concat(
      "balance: ", bad.size(), bad.size() == 1 ? " sample does" : " samples do",
      " not fit into a pack alone; raise balance.text_cap or balance.vision_cap, or prepare the "
      "data with a lower limit:",
      list));
}

}  // namespace

Packs pack_samples(const SampleSizes& sizes, const PackCaps& caps,
                   std::span<const std::uint32_t> order) {
  check_caps(sizes, caps);
  check_sample_fits(sizes, caps, order);
  return WindowPacker(sizes, caps, order).run();
}

Packs random_packs(std::span<const std::uint32_t> order, std::uint64_t group_size) {
  GIMBAL_USER_CHECK(group_size > 0,
                    "balance.method random needs balance.samples_per_pack of at least 1");
  Packs packs;
  packs.samples.assign(order.begin(), order.end());
  for (std::uint64_t end = 0; end < order.size();) {
    end = group_size < order.size() - end ? end + group_size : order.size();
    packs.offsets.push_back(end);
  }
  return packs;
}

}  // namespace gimbal
