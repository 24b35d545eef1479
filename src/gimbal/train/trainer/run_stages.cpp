#include "gimbal/base/file.h"
#include "gimbal/base/json.h"
#include "gimbal/base/log.h"
#include "gimbal/config/load.h"
#include "gimbal/train/layout/follow_plan.h"
#include "gimbal/train/preflight.h"
#include "gimbal/train/trainer/trainer.h"

namespace gimbal {

namespace {

TrainOutcome run_all(std::vector<StageRecipe> stages, Runtime& runtime) {
  // A mistake in the last stage should not show after hours of the first.
  std::vector<std::optional<Plan>> plans;
  for (StageRecipe& stage : stages) {
    PlannedStage planned = follow_plan(std::move(stage), runtime.comm->size());
    stage = std::move(planned.stage);
    plans.push_back(std::move(planned.plan));
    check_stage(stage.recipe, runtime.comm->size());
  }
  std::optional<std::filesystem::path> previous;
  TrainOutcome outcome{true, 0};
  if (stages.size() > 1 && runtime.is_main()) {
    const std::filesystem::path run = stages.front().recipe.train.run;
    make_folders(run);
    Json names = Json::array();
    std::vector<StageRecipe> written;
    for (std::size_t i = 0; i < stages.size(); ++i) {
      const StageRecipe& stage = stages[i];
      names.push_back(stage.name);
      written.push_back(with_plan_copy(stage, run / stage.name));
      // Also of stages to come: the recipe can be run again at any time.
      if (plans[i]) save_plan_copy(*plans[i], run / stage.name);
    }
    write_file_atomic(run / "stages.json", names.dump() + "\n");
    write_file_atomic(run / "recipe.yaml", to_yaml(written));
  }
  for (std::size_t i = 0; i < stages.size(); ++i) {
    const StageRecipe& stage = stages[i];
    std::filesystem::path folder = stage.recipe.train.run;
    if (stages.size() > 1) {
      folder /= stage.name;
      if (runtime.is_main()) log_info("stage '" + stage.name + "'");
    }
    outcome = Trainer(stage.recipe, std::move(plans[i]), folder, previous, runtime).run();
    if (!outcome.finished) break;
    previous = folder;
  }
  for (std::future<void>& running : runtime.exports) running.get();
  runtime.exports.clear();
  return outcome;
}

}  // namespace

TrainOutcome run_stages(std::vector<StageRecipe> stages, Runtime& runtime) {
  try {
    return run_all(std::move(stages), runtime);
  } catch (const std::exception& error) {
    // The others stop waiting and say who failed first.
    runtime.groups->report_failure(error);
    throw;
  }
}

}  // namespace gimbal
