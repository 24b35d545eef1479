// Arranging: packs into steps of alike packs, steps into a random order.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "gimbal/balance/pack.h"
#include "gimbal/balance/sizes.h"
#include "gimbal/base/rng.h"

namespace gimbal {

/// Per pack and stream the cost of its samples: [packs * streams].
std::vector<double> pack_costs(const Packs& packs, const SampleSizes& sizes,
                               std::span<const StreamCost> costs);

/// The order in which the packs are run; consecutive `packs_per_step` packs form a step. The packs
/// of a step are alike in every stream's cost and sorted by their whole cost. The cheapest packs
/// are the rest that fills no whole step; they come last. The order of the whole steps is random.
std::vector<std::uint32_t> arrange_alike(std::span<const double> costs, int num_streams,
                                         std::uint64_t packs_per_step, const CounterRng& rng);

}  // namespace gimbal
