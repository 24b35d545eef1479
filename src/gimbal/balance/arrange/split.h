// One pack as several micro-batches.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "gimbal/balance/sizes.h"

namespace gimbal {

/// Splits one pack into at most `count` micro-batches of consecutive samples with nearly equal
/// cost; 0: one sample each.
std::vector<std::vector<std::uint32_t>> split_pack(std::span<const std::uint32_t> pack,
                                                   std::int64_t count, const SampleSizes& sizes,
                                                   std::span<const StreamCost> costs);

}  // namespace gimbal
