// The grid that patterns are computed on.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "gimbal/balance/limits.h"
#include "gimbal/balance/patterns/generate.h"
#include "gimbal/balance/patterns/types.h"

namespace gimbal {

/// Per limit the size of a cell, and how many of them fill a pack.
struct PatternGrid {
  std::vector<std::uint64_t> units;
  std::vector<std::uint32_t> caps;
};

enum class Rounding { kUp, kDown };

/// The grid with at most `max_states` cells for which rounding the demands of the samples up loses
/// least. A cap above the sum of all demands limits nothing and is lowered to it.
PatternGrid choose_grid(const PackLimits& limits, std::span<const std::uint32_t> order,
                        std::size_t max_states);

/// The types as a problem in grid cells. `problem.cells` row i belongs to type `types[i]`: types
/// without demand, or without any size after rounding, are left out. Rounding up, a pattern is
/// allowed for every choice of samples; types that do not fit alone after rounding are left out
/// too. Rounding down, every pack of real samples is a pattern.
struct GridProblem {
  PatternProblem problem;
  std::vector<std::uint32_t> types;
};
GridProblem grid_problem(const TypeTree& tree, const PatternGrid& pattern_grid,
                         std::span<const std::uint64_t> demand, Rounding rounding);

/// Columns over the rows of a GridProblem as columns over the tree's types: `types` is the
/// problem's.
std::vector<PatternColumn> name_types(std::vector<PatternColumn> columns,
                                      std::span<const std::uint32_t> types);

}  // namespace gimbal
