// A run that follows a plan.json: what of the plan becomes options of the recipe.
#pragma once

#include <string>

#include "gimbal/config/recipe.h"
#include "gimbal/plan/plan.h"

namespace gimbal {

/// The stage with the plan of train.plan worked in: balance caps and packs_per_step, and the
/// recompute level of every block (model.recompute_groups). A stage without train.plan comes back
/// as it is. `world_size`: processes of the run. Throws UserError for a plan for another model or
/// other blocks, one whose mesh has no runtime yet or another number of ranks, and for recipe
/// options that were given and say something else than the plan, naming both.
StageRecipe follow_plan(StageRecipe stage, int world_size);

/// The recipe's options after the plan; `given` as StageRecipe::given.
void apply_plan(const Plan& plan, const std::string& plan_file, const ModelDesc& model,
                StageRecipe& stage);

/// Why the plan's predictions do not hold for the recipe though it can be followed; empty when they
/// do.
std::string plan_warning(const Plan& plan, const Recipe& recipe);

/// The mesh has only the axes that training runs, and `world_size` ranks.
void check_plan_runs(const Plan& plan, const std::string& plan_file, int world_size);

/// The plan was made for these blocks.
void check_plan_model(const Plan& plan, const std::string& plan_file, const ModelDesc& model,
                      const std::string& model_folder);

}  // namespace gimbal
