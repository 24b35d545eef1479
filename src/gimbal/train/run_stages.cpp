#include "gimbal/base/file.h"
#include "gimbal/base/json.h"
#include "gimbal/base/log.h"
#include "gimbal/config/load.h"
#include "gimbal/train/follow_plan.h"
#include "gimbal/train/preflight.h"
#include "gimbal/train/trainer.h"

namespace gimbal {

TrainOutcome run_stages(std::vector<StageRecipe> stages, Runtime& runtime) {
  // A mistake in the last stage should not show after hours of the first.
  for (StageRecipe& stage : stages) {
    stage = follow_plan(std::move(stage), runtime.comm->size());
    check_stage(stage.recipe);
  }
  std::optional<std::filesystem::path> previous;
  TrainOutcome outcome{true, 0};
  if (stages.size() > 1 && runtime.is_main()) {
    const std::filesystem::path run = stages.front().recipe.train.run;
    make_folders(run);
    Json names = Json::array();
    for (const StageRecipe& stage : stages) names.push_back(stage.name);
    write_file_atomic(run / "stages.json", names.dump() + "\n");
    write_file_atomic(run / "recipe.yaml", to_yaml(stages));
  }
  for (const StageRecipe& stage : stages) {
    std::filesystem::path folder = stage.recipe.train.run;
    if (stages.size() > 1) {
      folder /= stage.name;
      if (runtime.is_main()) log_info("stage '" + stage.name + "'");
    }
    outcome = Trainer(stage.recipe, folder, previous, runtime).run();
    if (!outcome.finished) return outcome;
    previous = folder;
  }
  return outcome;
}

}  // namespace gimbal
