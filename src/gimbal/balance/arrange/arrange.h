// Arranging: packs into slots of equal cost, slots into a random order.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "gimbal/balance/limits.h"
#include "gimbal/balance/packs.h"
#include "gimbal/balance/sizes.h"
#include "gimbal/base/rng.h"

namespace gimbal {

/// Per pack and stream the cost of its samples: [packs * streams].
std::vector<double> pack_costs(const Packs& packs, const SampleSizes& sizes,
                               std::span<const StreamCost> costs);

/// Orders the packs in place; afterwards consecutive `packs_per_slot` packs form a slot. The packs
/// of a slot are alike in every stream's rows and cost, and sorted by their whole cost. Packs that
/// fill no whole slot (the cheapest) come last. The order of the whole slots is random and has next
/// to no trend in cost. Samples change places: between packs, where that makes the packs more alike
/// (no limit is exceeded by that, and each pack keeps its number of samples), and between slots,
/// among samples of equal size, where that mixes sources. `sources`: per sample, empty = all alike.
/// A pure function of its arguments; linear but for the sorting.
void arrange_packs(Packs& packs, const PackLimits& limits, std::span<const StreamCost> costs,
                   std::span<const std::uint32_t> sources, std::uint64_t packs_per_slot,
                   const CounterRng& rng);

}  // namespace gimbal
