// Column generation: the patterns that the least number of packs needs (Gilmore and Gomory 1961).
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <vector>

#include "gimbal/balance/patterns/knapsack.h"

namespace gimbal {

/// A cutting-stock problem in whole numbers of grid cells.
struct PatternProblem {
  std::vector<std::uint32_t> cells;  // [types * dims]
  std::vector<std::uint32_t> caps;   // [dims]
  std::vector<double> demand;        // [types]
};

struct ColumnOptions {
  /// Ends when the proven gap between the patterns found and all patterns is below this share.
  double gap = 1e-4;
  double max_seconds = std::numeric_limits<double>::infinity();
  int max_rounds = std::numeric_limits<int>::max();
  /// Ends when this many rounds lowered the value by less than the gap / 4; 0: never.
  int stall_rounds = 0;
  /// Ends when the bound is above this.
  double enough = std::numeric_limits<double>::infinity();
  /// Ends when the value is below this: the bound cannot exceed it any more.
  double hopeless = 0;
  std::function<bool(double)> progress;  // as PatternOptions::progress
};

struct GeneratedPatterns {
  std::vector<PatternColumn> columns;
  std::vector<double> use;  // of each column in the last solution
  double value = 0;         // least sum over the columns found
  /// No cover has less, by exact arithmetic: dual prices in whole numbers, divided by the best
  /// pattern's value (Farley 1990).
  double bound = 0;
  bool complete = false;
};

GeneratedPatterns generate_patterns(const PatternProblem& problem, std::vector<PatternColumn> start,
                                    const ColumnOptions& options);

}  // namespace gimbal
