// What of a plan's mesh, schedule and policy for weights is fixed: by options, then by the recipe.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "apps/cli/plan/arguments.h"
#include "gimbal/config/recipe.h"
#include "gimbal/plan/planner.h"

namespace gimbal::cli {

/// Fixes what the options say, and what else the recipe sets of its section `parallel`. Without
/// --devices there are as many devices as the fixed axes make. Returns a sentence for what the
/// recipe has fixed and one for the number of devices, where people would not know. Throws
/// UserError when the model or the devices do not allow what the recipe fixes.
std::vector<std::string> choose_mesh(const PlanInputArguments& arguments,
                                     const std::optional<StageRecipe>& stage, PlanInput& input);

}  // namespace gimbal::cli
