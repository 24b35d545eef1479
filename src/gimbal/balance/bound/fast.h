// Lower bounds on the number of packs in linear time.
#pragma once

#include <cstdint>
#include <span>

#include "gimbal/balance/limits.h"

namespace gimbal {

/// No packing of the samples in `order` has fewer packs. The largest, over the limits and
/// over weighted sums of two of them, of volume (total demand / cap, rounded up) and of dual
/// feasible functions; 0 for an empty order. Entries that do not fit alone count as one pack each.
std::uint64_t fast_lower_bound(const PackLimits& limits, std::span<const std::uint32_t> order);

}  // namespace gimbal
