// What people should know about a plan besides its figures.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "apps/cli/plan/arguments.h"
#include "gimbal/config/recipe.h"
#include "gimbal/plan/plan.h"

namespace gimbal::cli {

/// Options of the recipe that plans leave out of account: recompute levels, prefetch, offload.
std::vector<std::string> recipe_notes(const StageRecipe& stage);

/// Of a found or given plan: choices that its mesh leaves without use, and why training with the
/// recipe's `stage` cannot follow it.
std::vector<std::string> plan_notes(const PlanInputArguments& arguments,
                                    const std::optional<StageRecipe>& stage, const Plan& plan);

}  // namespace gimbal::cli
