// Packing one batch of a stream quickly.
#pragma once

#include <cstdint>
#include <span>

#include "gimbal/balance/limits.h"
#include "gimbal/balance/packs.h"

namespace gimbal {

/// Which of the ways to pack suits a stream; found by trying all, used for many batches.
using PackWay = std::uint64_t;

/// Packs the samples in `order`, all of which fit alone, by filling packs in the given way and a
/// short local search.
Packs batch_packs(const PackLimits& limits, std::span<const std::uint32_t> order, PackWay way);

/// The way that packs these samples best, the first among equals.
PackWay best_pack_way(const PackLimits& limits, std::span<const std::uint32_t> order);

}  // namespace gimbal
