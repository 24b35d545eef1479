// The lower bound of the pattern LP, by column generation.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "gimbal/balance/limits.h"

namespace gimbal {

/// Why the search for the bound ended. kSolved: the LP's value is known. kMetKnown: the bound is as
/// high as the known packing. kBelowFast: the value cannot exceed the fast bound any more.
/// kStopped: by time or by `progress`.
enum class LpEnd { kSolved, kMetKnown, kBelowFast, kStopped };

struct LpBound {
  std::uint64_t packs = 0;  // no packing has fewer; at least the fast bound
  double value = 0;         // proven of the LP, before rounding up; 0 when it was not tried
  LpEnd end = LpEnd::kStopped;
  double seconds = 0;
  /// False: more time could raise the bound; it is true all the same.
  bool complete() const { return end != LpEnd::kStopped; }
};

/// Sizes are rounded down to types, so that the bound holds for the real sizes. When stopped early
/// the bound is Farley's (1990). `known_packs`: a packing of so many packs is known; the search
/// ends when the bound reaches it (0: not known). `progress` as in PatternOptions.
LpBound lp_lower_bound(const PackLimits& limits, std::span<const std::uint32_t> order,
                       double max_seconds, std::uint64_t known_packs = 0,
                       const std::function<bool(double)>& progress = {});

}  // namespace gimbal
