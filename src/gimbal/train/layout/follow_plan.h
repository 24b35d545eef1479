// A run that follows a plan.json: what of the plan becomes options of the recipe.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "gimbal/config/recipe.h"
#include "gimbal/plan/plan.h"

namespace gimbal {

struct PlannedStage {
  StageRecipe stage;
  std::optional<Plan> plan;  // that it follows
};

/// The stage with the plan of train.plan worked in: mesh, stages and schedule, balance caps and
/// packs_per_step, and the recompute level of every block (model.recompute_groups). A stage without
/// train.plan comes back as it is. `world_size`: processes of the run. Throws UserError for a plan
/// for another model, other blocks or other frozen ones, one with expert parallelism or another
/// number of ranks, and for recipe options that were given and say something else than the plan,
/// naming both.
PlannedStage follow_plan(StageRecipe stage, int world_size);

/// The stage with the mesh, stages and schedule of the plan of train.plan in its `parallel`
/// options, for a model that is only evaluated: caps, steps and levels of a plan are for training.
/// Throws UserError as follow_plan does.
StageRecipe follow_plan_mesh(StageRecipe stage, const ModelDesc& model, int world_size);

/// The recipe's options after the plan; `given` as StageRecipe::given. Throws UserError for options
/// that differ from the plan's, or that make packs no plan is made for.
void apply_plan(const Plan& plan, const std::string& plan_file, const ModelDesc& model,
                StageRecipe& stage);

/// Why the plan's predictions do not hold for the recipe though it can be followed; empty when they
/// do.
std::string plan_warning(const Plan& plan, const Recipe& recipe);

/// The mesh has axes that training runs, and `world_size` ranks.
void check_plan_runs(const Plan& plan, const std::string& plan_file, int world_size);

/// The plan was made for these blocks.
void check_plan_model(const Plan& plan, const std::string& plan_file, const ModelDesc& model,
                      const std::string& model_folder);

/// The plan was made for these frozen blocks (frozen_blocks) of the model. Blocks without
/// parameters of their own, as a tied head, count as either.
void check_plan_freeze(const Plan& plan, const std::string& plan_file, const ModelDesc& model,
                       const std::vector<bool>& frozen);

/// The run folder's copy of its plan, which its recipe.yaml names: the run can be repeated when the
/// plan that was given has moved.
std::filesystem::path plan_copy(const std::filesystem::path& run_folder);
/// Makes the folder if need be.
void save_plan_copy(const Plan& plan, const std::filesystem::path& run_folder);
/// train.plan is the copy if there is a plan.
StageRecipe with_plan_copy(StageRecipe stage, const std::filesystem::path& run_folder);

}  // namespace gimbal
