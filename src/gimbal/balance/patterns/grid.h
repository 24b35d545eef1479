// The grid that patterns are computed on.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "gimbal/balance/limits.h"
#include "gimbal/balance/patterns/generate.h"
#include "gimbal/balance/patterns/types.h"

namespace gimbal {

enum class Rounding { kUp, kDown };

/// Per limit the size of a grid cell, such that the grid has at most `max_states` cells: the sizes
/// for which rounding the demands of the samples up loses least.
std::vector<std::uint64_t> choose_units(const PackLimits& limits,
                                        std::span<const std::uint32_t> order,
                                        std::size_t max_states);

/// The types as a problem in grid cells. `problem.cells` row i belongs to type `types[i]`: types
/// without demand, or without any size after rounding, are left out. Rounding up, a pattern is
/// allowed for every choice of samples; types that do not fit alone after rounding are left out
/// too. Rounding down, every pack of real samples is a pattern.
struct GridProblem {
  PatternProblem problem;
  std::vector<std::uint32_t> types;
};
GridProblem grid_problem(const TypeTree& tree, const PackLimits& limits,
                         std::span<const std::uint64_t> units,
                         std::span<const std::uint64_t> demand, Rounding rounding);

/// Columns over the rows of a GridProblem as columns over the tree's types: `types` is the
/// problem's.
std::vector<PatternColumn> name_types(std::vector<PatternColumn> columns,
                                      std::span<const std::uint32_t> types);

}  // namespace gimbal
