#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "apps/cli/run/command.h"
#include "gimbal/base/error.h"
#include "gimbal/base/file.h"
#include "gimbal/base/log.h"
#include "gimbal/config/load.h"
#include "gimbal/train/build.h"
#include "gimbal/train/stop/stop_signal.h"
#include "gimbal/train/trainer/trainer.h"

namespace gimbal::cli {
namespace {

/// Tells `python -m gimbal.launch` what an exit code cannot say (see there). False when there is no
/// such launcher to read it.
bool leave_launch_note(const std::string& text) {
  const char* folder = std::getenv("GIMBAL_LAUNCH_NOTES");
  if (folder == nullptr || *folder == '\0') return false;
  try {
    write_file_atomic(std::filesystem::path(folder) / concat(::getpid(), ".note"), text + "\n");
    return true;
  } catch (const UserError& error) {
    log_warning(concat("the launcher cannot be told '", text, "': ", error.what()));
    return false;
  }
}

}  // namespace

int run_train(const Arguments& arguments) {
  GIMBAL_USER_CHECK(!arguments.empty(), "gimbal-run train needs a recipe");
  const std::vector<StageRecipe> stages =
      load_recipe(arguments.front(), {arguments.begin() + 1, arguments.end()},
                  {"model.path", "data.train", "train.run"});
  const TrainConfig& train = stages.front().recipe.train;
  Runtime runtime = make_runtime(train.device, train.threads, train.timeout_seconds);
  // Before the ranks have met there is nothing to save, and a signal ends the process at once.
  install_stop_signals();
  if (runtime.is_main() && runtime.launch.attempt > 0)
    log_warning(concat("restart ", runtime.launch.attempt, " of the job after a failure"));
  const TrainOutcome outcome = run_stages(stages, runtime);
  if (outcome.signal == 0 || leave_launch_note(concat("stopped ", outcome.signal))) return 0;
  // As a shell reports a program that a signal ended.
  return 128 + outcome.signal;
}

}  // namespace gimbal::cli
