// From a candidate and its cuts to a complete plan with its prediction.
#pragma once

#include <string>

#include "gimbal/plan/search/evaluator.h"

namespace gimbal {

/// Steps that are simulated for a prediction, and to compare layouts of one candidate.
inline constexpr std::uint64_t kPredictedSteps = 5;

/// `method`: what the plan is called in tables.
Plan complete_plan(Evaluator& evaluator, const Candidate& candidate, const StageLayout& layout,
                   const PackedWork& packed, const std::string& method);

/// The candidate that a plan was made of.
Candidate candidate_of(const Plan& plan);

/// Throws InternalError when the plan does not cover every block once or breaks the mesh.
void verify_plan(const Plan& plan, const PlanInput& input);

}  // namespace gimbal
