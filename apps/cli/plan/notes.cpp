#include "apps/cli/plan/notes.h"

#include "gimbal/base/error.h"
#include "gimbal/plan/file/parallel_section.h"

namespace gimbal::cli {

std::vector<std::string> recipe_notes(const StageRecipe& stage) {
  std::vector<std::string> notes;
  for (const char* key : {"model.recompute", "model.recompute_blocks", "model.recompute_groups"}) {
    if (!stage.given.contains(key)) continue;
    notes.push_back(concat(key, " of the recipe is not used: a plan says each block's level"));
  }
  const ParallelConfig& parallel = stage.recipe.parallel;
  if (!parallel.prefetch) {
    notes.push_back(
        "parallel.prefetch: false of the recipe is not used: a plan counts on weights "
        "that are gathered ahead");
  }
  if (parallel.offload_optimizer) {
    notes.push_back(
        "parallel.offload_optimizer of the recipe is not used: a plan counts optimizer "
        "state as memory of the device");
  }
  return notes;
}

std::vector<std::string> plan_notes(const PlanInputArguments& arguments,
                                    const std::optional<StageRecipe>& stage, const Plan& plan) {
  std::vector<std::string> notes;
  const MeshShape& mesh = plan.mesh;
  if (arguments.schedule && *arguments.schedule != plan.schedule.kind) {
    notes.push_back(concat("--schedule ", pipeline_name(*arguments.schedule),
                           " has no effect: the plan has one pipeline stage (pp 1); give --pp N "
                           "above 1 with it"));
  }
  if (arguments.stages_per_rank && mesh.pp == 1) {
    notes.push_back(
        concat("--stages-per-rank ", *arguments.stages_per_rank,
               " has no effect: the plan has one pipeline stage (pp 1); give --pp N above 1 with "
               "it"));
  }
  if (stage) {
    for (const ParallelConflict& conflict :
         parallel_conflicts(plan, stage->recipe.parallel, stage->given)) {
      notes.push_back(concat("training with this recipe refuses the plan: ", conflict.key, " is ",
                             conflict.asked, ", the plan has ", conflict.planned,
                             "; change the recipe, or leave the key out"));
    }
  }
  if (stage && mesh.ep > 1) {
    notes.push_back(concat("training cannot run this mesh (", to_string(mesh),
                           "): it has no expert parallelism; add --ep 1 for a plan that runs"));
  }
  return notes;
}

}  // namespace gimbal::cli
