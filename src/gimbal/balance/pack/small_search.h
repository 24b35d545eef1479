// A thorough search for few packs, for inputs small enough that time does not matter.
#pragma once

#include <cstdint>
#include <span>

#include "gimbal/balance/limits.h"
#include "gimbal/balance/packs.h"

namespace gimbal {

/// Several starts with local search, then ruin and recreate: a few packs are dissolved and packed
/// anew, worse results are undone. Ends when the fast lower bound is met or after a number of steps
/// that is in proportion to the samples (about 50 microseconds each). A pure function of its
/// arguments.
Packs small_search_packs(const PackLimits& limits, std::span<const std::uint32_t> order);

}  // namespace gimbal
