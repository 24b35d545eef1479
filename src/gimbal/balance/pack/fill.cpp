#include "gimbal/balance/pack/fill.h"

#include <algorithm>
#include <numeric>

namespace gimbal {
namespace {

constexpr std::uint64_t kSizeSteps = 32;
// Partners that are tried for one item when several limits reject them.
constexpr int kPartnerTries = 12;

// Fills pack after pack. What is not in a pack is a list in the order of the items; its first
// `reach` entries are also kept sorted by size, to find what fills a gap.
class FittedFill {
 public:
  FittedFill(OpenPacks& packs, std::uint32_t passes, std::uint32_t reach)
      : packs_(packs), passes_(passes), reach_(reach), end_(packs.num_items()) {
    next_.resize(end_ + 1);
    prev_.resize(end_ + 1);
    for (std::uint32_t i = 0; i <= end_; ++i) {
      next_[i] = i == end_ ? 0 : i + 1;
      prev_[i] = i == 0 ? end_ : i - 1;
    }
    for (std::uint32_t i = 0; i < std::min(reach_, end_); ++i) near_.push_back({size(i), i});
    std::sort(near_.begin(), near_.end());
    frontier_ = std::min(reach_, end_);
  }

  void run() {
    while (next_[end_] != end_) {
      const std::uint32_t pack = packs_.open();
      const std::uint32_t last = fill_in_order(pack);
      if (next_[end_] == end_) break;
      packs_.take(last);
      put_back(last);
      complete(pack, last);
      while (complete(pack, kNone)) {
      }
    }
  }

 private:
  static constexpr std::uint32_t kNone = OpenPacks::kNone;
  struct Near {
    std::uint64_t size;
    std::uint32_t item;
    bool operator<(const Near& other) const {
      return size != other.size ? size < other.size : item < other.item;
    }
  };

  std::uint64_t size(std::uint32_t item) const { return packs_.size(item); }

  // Takes near items only. Returns the last one that went in.
  std::uint32_t fill_in_order(std::uint32_t pack) {
    std::uint32_t last = kNone;
    std::uint32_t passed = 0;
    for (std::uint32_t item = next_[end_]; item < frontier_; item = next_[item]) {
      if (packs_.fits(item, pack)) {
        use(item, pack);
        last = item;
      } else if (++passed > passes_) {
        break;
      }
    }
    return last;
  }

  // Adds the one or two near items that leave the least room; `at_least`, if not kNone, when
  // nothing does better. False when nothing was added.
  bool complete(std::uint32_t pack, std::uint32_t at_least) {
    const std::uint64_t slack = packs_.slack(pack);
    OpenPacks::Pair best{at_least, kNone};
    std::uint64_t left = at_least == kNone ? slack : slack - size(at_least);
    std::size_t high = static_cast<std::size_t>(
        std::upper_bound(near_.begin(), near_.end(), Near{slack, kNone}) - near_.begin());
    std::size_t low = 0;  // partners of near_[high] are below this
    for (; high > 0; --high) {
      const Near& x = near_[high - 1];
      // Neither this item nor it with one of its size or below can do better.
      if (slack - x.size >= left && slack - x.size >= left + x.size) break;
      if (!packs_.fits(x.item, pack)) continue;
      const std::uint64_t room = slack - x.size;
      if (room < left) {
        left = room;
        best = {x.item, kNone};
      }
      while (low < near_.size() && near_[low].size <= room) ++low;
      int tries = kPartnerTries;
      for (std::size_t j = std::min(low, high - 1); j > 0 && tries > 0; --j, --tries) {
        const Near& y = near_[j - 1];
        if (room - y.size >= left) break;
        if (!packs_.fit_together(x.item, y.item, pack)) continue;
        left = room - y.size;
        best = {x.item, y.item};
        break;
      }
    }
    if (best.x != kNone) use(best.x, pack);
    if (best.y != kNone) use(best.y, pack);
    return best.x != kNone;
  }

  void use(std::uint32_t item, std::uint32_t pack) {
    packs_.add(item, pack);
    next_[prev_[item]] = next_[item];
    prev_[next_[item]] = prev_[item];
    near_.erase(std::lower_bound(near_.begin(), near_.end(), Near{size(item), item}));
    if (near_.size() < reach_ && frontier_ < end_) insert_near(frontier_++);
  }

  void put_back(std::uint32_t item) {
    next_[prev_[item]] = item;
    prev_[next_[item]] = item;
    insert_near(item);
  }

  void insert_near(std::uint32_t item) {
    const Near near{size(item), item};
    near_.insert(std::lower_bound(near_.begin(), near_.end(), near), near);
  }

  OpenPacks& packs_;
  const std::uint32_t passes_;
  const std::uint32_t reach_;
  const std::uint32_t end_;  // also the list's head
  std::vector<std::uint32_t> next_, prev_;
  std::vector<Near> near_;
  std::uint32_t frontier_ = 0;  // the first item that is not yet near
};

}  // namespace

void fill_best_fit(OpenPacks& packs, bool decreasing) {
  std::vector<std::uint32_t> items(packs.num_items());
  std::iota(items.begin(), items.end(), 0U);
  if (decreasing) {
    const std::uint64_t step = packs.whole() / kSizeSteps + 1;
    std::stable_sort(items.begin(), items.end(), [&](std::uint32_t x, std::uint32_t y) {
      return packs.size(x) / step > packs.size(y) / step;
    });
  }
  for (const std::uint32_t item : items) packs.place(item);
}

void fill_fitted(OpenPacks& packs, std::uint32_t passes, std::uint32_t reach) {
  FittedFill(packs, passes, reach).run();
  packs.shelve_all();
}

void fill_in_way(OpenPacks& packs, const FillWay& way, std::uint32_t reach) {
  if (way.kind == FillWay::kFitted) {
    fill_fitted(packs, way.passes, reach);
  } else {
    fill_best_fit(packs, way.kind == FillWay::kBestFitDecreasing);
  }
}

}  // namespace gimbal
