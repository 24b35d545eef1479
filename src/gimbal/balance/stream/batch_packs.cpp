#include "gimbal/balance/stream/batch_packs.h"

#include <array>
#include <limits>

#include "gimbal/balance/bound/fast.h"
#include "gimbal/balance/pack/fill.h"
#include "gimbal/balance/pack/local_search.h"
#include "gimbal/balance/pack/open_packs.h"
#include "gimbal/base/error.h"

namespace gimbal {
namespace {

// Items among which a fitted end is sought.
constexpr std::uint32_t kFitReach = 128;
// The local search tries to empty this share of the packs, the thinnest, ...
constexpr std::uint32_t kEmptiedDivisor = 5;
// ... for a gain of at least this share of a pack, with this much work per sample.
constexpr double kLeastGain = 1.0 / 256;
constexpr std::uint64_t kSearchWork = 300;

// Fewer ways than for an epoch: one is chosen every few batches.
constexpr std::array<FillWay, 6> kBatchWays{{{FillWay::kFitted, 0, 64},
                                             {FillWay::kFitted, 0, 1},
                                             {FillWay::kFitted, 20, 64},
                                             {FillWay::kFitted, 20, 1},
                                             {FillWay::kBestFit, 0, 8},
                                             {FillWay::kBestFitDecreasing, 0, 1}}};

}  // namespace

Packs batch_packs(const PackLimits& limits, std::span<const std::uint32_t> order, PackWay way) {
  GIMBAL_CHECK(way < kBatchWays.size(), "pack way ", way);
  if (order.empty()) return {};
  const FillWay& chosen = kBatchWays[way];
  const FillScale scale = FillScale(limits, order).sharpened(chosen.sharpness);
  OpenPacks open(limits, scale);
  open.load(order);
  fill_in_way(open, chosen, kFitReach);
  const auto tried = static_cast<std::uint32_t>(open.shelf().size()) / kEmptiedDivisor + 1;
  empty_thin_packs(open, {tried, kLeastGain, kSearchWork * order.size()});
  Packs packs;
  packs.samples.reserve(order.size());
  for (const OpenPacks::Gap& gap : open.shelf()) {
    open.append_samples(gap.pack, packs.samples);
    packs.offsets.push_back(packs.samples.size());
  }
  return packs;
}

PackWay best_pack_way(const PackLimits& limits, std::span<const std::uint32_t> order) {
  const std::uint64_t bound = fast_lower_bound(limits, order);
  PackWay best = 0;
  std::size_t fewest = std::numeric_limits<std::size_t>::max();
  for (PackWay way = 0; way < kBatchWays.size() && fewest > bound; ++way) {
    const std::size_t packs = batch_packs(limits, order, way).size();
    if (packs < fewest) {
      fewest = packs;
      best = way;
    }
  }
  return best;
}

}  // namespace gimbal
