// Small changes to a layout while the simulation gets faster.
#pragma once

#include <optional>
#include <vector>

#include "gimbal/plan/partition.h"
#include "gimbal/plan/search/evaluator.h"

namespace gimbal {

/// All levels, or full ones alone without the pass "recompute".
LevelChoice level_choice(const PlanInput& input);

/// The exact joint solution (kAll), or equal parameters with the levels that the passes allow.
/// Nothing: no choice fits.
std::optional<StageLayout> cut_candidate(Evaluator& evaluator, const Candidate& candidate,
                                         const PackedWork& packed);

/// Starts from `layout` and from the published methods' cuts, each with its best levels; moves each
/// cut by one block, with the levels chosen anew, as long as the simulated step gets faster. What
/// the objective of the partition leaves out (unlike micro-batches, messages, reductions) is
/// counted here.
StageLayout refine_layout(Evaluator& evaluator, const Candidate& candidate,
                          const PackedWork& packed, const StageLayout& layout);

}  // namespace gimbal
