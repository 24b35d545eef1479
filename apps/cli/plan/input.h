// From the input options to what the planner is asked: reads recipe, model, lengths and profile.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "apps/cli/plan/arguments.h"
#include "apps/cli/plan/samples.h"
#include "gimbal/config/recipe.h"
#include "gimbal/plan/planner.h"

namespace gimbal::cli {

struct PlanSetup {
  PlanInput input;
  std::optional<StageRecipe> stage;  // of the recipe that is planned for
  PlanSamples samples;               // of input.samples, which is a copy of their table
  std::vector<std::string> notes;    // what people should know: samples left out, for instance
};

/// What the recipe sets of mesh, schedule and policy for weights is fixed, unless an option says
/// otherwise. Throws UserError for files that cannot be read, models and machines that are not
/// known, a profile of another model, patterns that match no block, samples above a given cap, and
/// settings of a recipe that a plan cannot have.
PlanSetup read_plan_setup(const PlanInputArguments& arguments);

/// The same for a given plan of `file`, whose mesh, schedule, caps and packs per step it takes
/// over. Throws UserError also for a plan of another model or number of devices, and for a mesh or
/// a schedule that the model does not allow.
PlanSetup read_plan_setup(const PlanInputArguments& arguments, const Plan& plan,
                          const std::string& file);

}  // namespace gimbal::cli
