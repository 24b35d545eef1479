// From shares of patterns to whole packs.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "gimbal/balance/patterns/knapsack.h"

namespace gimbal {

/// How often each pattern is used so that almost all of the demand is served with few packs: the
/// linear program, rounded down, and again for what is left over, until the rest is a handful of
/// packs. Where the program covers a type more often than demanded, a use of a pattern stands for
/// fewer samples of it. Types without a column are left out.
std::vector<std::uint64_t> whole_patterns(std::span<const PatternColumn> columns,
                                          std::span<const std::uint64_t> demand);

}  // namespace gimbal
