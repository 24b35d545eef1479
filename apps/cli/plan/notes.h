// What people should know about a plan besides its figures.
#pragma once

#include <string>
#include <vector>

#include "apps/cli/plan/arguments.h"
#include "gimbal/config/recipe.h"
#include "gimbal/plan/plan.h"

namespace gimbal::cli {

/// Options of the recipe that plans leave out of account: its recompute levels.
std::vector<std::string> recipe_notes(const StageRecipe& stage);

/// Of a found or given plan: choices that its mesh leaves without use, and a mesh of a recipe that
/// training cannot run.
std::vector<std::string> plan_notes(const PlanInputArguments& arguments, const Plan& plan);

}  // namespace gimbal::cli
