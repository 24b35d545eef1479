#include "apps/cli/run/command.h"
#include "gimbal/base/error.h"
#include "gimbal/config/load.h"
#include "gimbal/train/stop_signal.h"
#include "gimbal/train/trainer.h"

namespace gimbal::cli {

int run_train(const Arguments& arguments) {
  GIMBAL_USER_CHECK(!arguments.empty(), "gimbal-run train needs a recipe");
  const std::vector<StageRecipe> stages =
      load_recipe(arguments.front(), {arguments.begin() + 1, arguments.end()},
                  {"model.path", "data.train", "train.run"});
  install_stop_signals();
  const TrainConfig& train = stages.front().recipe.train;
  Runtime runtime = make_runtime(train.device, train.threads, train.timeout_seconds);
  const TrainOutcome outcome = run_stages(stages, runtime);
  // As a shell reports a program that a signal ended.
  return outcome.signal == 0 ? 0 : 128 + outcome.signal;
}

}  // namespace gimbal::cli
