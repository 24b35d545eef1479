// Cutting a row of weights into parts that weigh alike.
#pragma once

#include <cstddef>
#include <vector>

#include "gimbal/plan/cut_problem.h"

namespace gimbal {

/// Cuts `weights` into `parts` non-empty ranges: first those of the least largest sum, of these the
/// ones of the least sum of squares. Returns [parts + 1] ascending positions. Dynamic programming,
/// O(parts * weights^2).
std::vector<std::size_t> balanced_cuts(const std::vector<double>& weights, int parts);

/// Throws UserError when the model has fewer blocks than the pipeline has stages.
void check_enough_blocks(const CutProblem& problem);

/// The cuts with every block recomputed as far as it can be.
StageLayout full_recompute_layout(const CutProblem& problem, std::vector<std::size_t> stage_begin);

/// Full where the block has that level, else keep.
Recompute full_level(const CostModel& costs, std::size_t block);

}  // namespace gimbal
