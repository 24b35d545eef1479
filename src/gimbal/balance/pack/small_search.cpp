#include "gimbal/balance/pack/small_search.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "gimbal/balance/bound/fast.h"
#include "gimbal/balance/pack/exact.h"
#include "gimbal/balance/pack/fill.h"
#include "gimbal/balance/pack/local_search.h"
#include "gimbal/balance/pack/open_packs.h"
#include "gimbal/base/rng.h"

namespace gimbal {
namespace {

// Item pairs that are looked at, per sample: in one local search, and in all ruins.
constexpr std::uint64_t kStartWork = 1000;
constexpr std::uint64_t kRuinWork = 3000;
constexpr std::uint64_t kMaxRuined = 6;

// Few packs first; among as many, packs that differ: nearly empty ones can be emptied.
struct Quality {
  std::uint64_t packs = ~std::uint64_t{0};
  std::uint64_t spread = 0;  // sum of squared fills
  bool at_least(const Quality& other) const {
    return packs != other.packs ? packs < other.packs : spread >= other.spread;
  }
};

class SmallSearch {
 public:
  SmallSearch(const PackLimits& limits, const FillScale& scale,
              std::span<const std::uint32_t> order, std::uint64_t bound)
      : open_(limits, scale), bound_(bound), rng_(order.size()) {
    open_.load(order);
  }

  bool done() const { return best_.packs <= bound_; }
  std::uint64_t packs() const { return best_.packs; }

  template <typename Start>
  void start(const Start& fill) {
    if (done()) return;
    open_.clear();
    fill(open_);
    empty_thin_packs(open_, {static_cast<std::uint32_t>(open_.shelf().size()), 1.0 / 4096,
                             kStartWork * open_.num_items()});
    keep_if_better();
  }

  void ruin_and_recreate() {
    if (done()) return;
    restore();
    std::uint64_t work = kRuinWork * open_.num_items();
    while (!done() && work > 0) {
      const std::uint64_t spent = ruin() + 4 * open_.num_items();
      work -= std::min(work, spent);
      if (!keep_if_better()) restore();
    }
  }

  Packs result() {
    restore();
    Packs packs;
    std::vector<std::uint32_t> samples;
    for (const OpenPacks::Gap& gap : open_.shelf()) {
      samples.clear();
      open_.append_samples(gap.pack, samples);
      packs.add(samples);
    }
    return packs;
  }

 private:
  static constexpr std::uint32_t kNone = OpenPacks::kNone;
  bool keep_if_better() {
    Quality now{open_.shelf().size(), 0};
    for (const OpenPacks::Gap& gap : open_.shelf()) {
      const std::uint64_t fill = (open_.whole() - gap.slack) >> 30;
      now.spread += fill * fill;
    }
    if (!now.at_least(best_)) return false;
    best_ = now;
    best_pack_.resize(open_.num_items());
    for (std::uint32_t i = 0; i < open_.num_items(); ++i) best_pack_[i] = open_.pack_of(i);
    return true;
  }

  void restore() {
    open_.clear();
    for (std::uint32_t i = 0; i < open_.num_items(); ++i) {
      while (open_.num_packs() <= best_pack_[i]) open_.open();
      open_.add(i, best_pack_[i]);
    }
    open_.shelve_all();
  }

  // Dissolves the thinnest pack and some others, and packs their items anew in a random order
  // (large ones first, every other time). Returns the work that it took.
  std::uint64_t ruin() {
    const std::size_t count = open_.shelf().size();
    std::vector<std::uint32_t> ruined{open_.shelf().back().pack};
    const std::uint64_t others = 1 + rng_.below(draws_++, kMaxRuined);
    for (std::uint64_t i = 0; i < others; ++i) {
      const std::uint32_t pack = open_.shelf()[rng_.below(draws_++, count)].pack;
      if (std::find(ruined.begin(), ruined.end(), pack) == ruined.end()) ruined.push_back(pack);
    }
    std::vector<std::uint32_t> items;
    for (const std::uint32_t pack : ruined) {
      open_.unshelve(pack);
      while (open_.first_in(pack) != kNone) {
        items.push_back(open_.first_in(pack));
        open_.take(items.back());
      }
      open_.shelve(pack);
    }
    for (std::size_t i = items.size(); i > 1; --i) {
      std::swap(items[i - 1], items[rng_.below(draws_++, i)]);
    }
    if (draws_ % 2 == 0) {
      std::stable_sort(items.begin(), items.end(), [this](std::uint32_t x, std::uint32_t y) {
        return open_.size(x) > open_.size(y);
      });
    }
    for (const std::uint32_t item : items) open_.place(item);
    const std::uint64_t budget = 8 * std::uint64_t{open_.num_items()} + 512;
    return items.size() * 8 + empty_thin_packs(open_, {2, 1.0 / 4096, budget});
  }

  OpenPacks open_;
  std::uint64_t bound_;
  CounterRng rng_;
  std::uint64_t draws_ = 0;
  Quality best_;
  std::vector<std::uint32_t> best_pack_;  // per item
};

}  // namespace

Packs small_search_packs(const PackLimits& limits, std::span<const std::uint32_t> order) {
  if (order.empty()) return {};
  const FillScale scale(limits, order);  // also checks the entries
  const std::uint64_t bound = fast_lower_bound(limits, order);
  const FillScale sharp = scale.sharpened(64);
  SmallSearch even(limits, scale, order, bound);
  SmallSearch steep(limits, sharp, order, bound);
  for (SmallSearch* search : {&steep, &even}) {
    for (const std::uint32_t passes : {0U, 20U, ~0U}) {
      search->start([&](OpenPacks& packs) { fill_fitted(packs, passes, 512); });
    }
    search->start([](OpenPacks& packs) { fill_best_fit(packs, true); });
    search->start([](OpenPacks& packs) { fill_best_fit(packs, false); });
    search->ruin_and_recreate();
    if (search->done()) return search->result();
  }
  Packs best = (steep.packs() < even.packs() ? steep : even).result();
  if (order.size() > kMostExactSamples) return best;
  return exact_packs(limits, order, best.size()).value_or(std::move(best));
}

}  // namespace gimbal
