// gimbal train: checks the recipe, then hands over to gimbal-run.
#include "apps/cli/command.h"
#include "apps/cli/process.h"
#include "gimbal/base/error.h"
#include "gimbal/config/load.h"
#include "gimbal/config/mesh_shape.h"

namespace gimbal::cli {
namespace {

constexpr const char* kExamples =
    "Examples:\n"
    "  gimbal train recipe.yaml\n"
    "  gimbal train recipe.yaml optimizer.lr=3e-4 train.max_steps=100 model.freeze=[vision.*]\n"
    "  gimbal train recipe.yaml stages.align.train.max_steps=50\n"
    "  gimbal train recipe.yaml --nproc 2\n"
    "  gimbal train recipe.yaml --nproc 4 --max-restarts 3 parallel.pp=2\n"
    "  srun gimbal train recipe.yaml\n"
    "\n"
    "Without --nproc the variables of torchrun, srun or mpirun are used; without those, one "
    "process.\n"
    "With --max-restarts a job that fails goes on from its last checkpoint, unless its input is "
    "bad\n"
    "or a signal told it to leave; with torchrun, give torchrun that option instead.\n"
    "\n"
    "Options of a recipe (as section: {key: value} in the file, section.key=value here). `stages:` "
    "in the\n"
    "file is a list of stages, run in order; each has a name and keys that differ from the rest:\n";

int run_train(const Arguments& arguments) {
  CLI::App app("Train a model as a recipe says.", "gimbal train");
  std::string recipe;
  std::vector<std::string> overrides;
  int num_processes = 1;
  int max_restarts = 0;
  app.add_option("RECIPE", recipe, "Recipe file (YAML)")->required()->option_text("FILE");
  app.add_option("KEY=VALUE", overrides, "Options that replace those of the recipe")
      ->option_text("...");
  app.add_option("--nproc", num_processes, "Processes to start on this machine")
      ->check(process_count())
      ->option_text("N");
  app.add_option("--max-restarts", max_restarts,
                 "How often a job that fails is started again (with --nproc)")
      ->check(whole_number_from(0, 1000))
      ->needs("--nproc")
      ->option_text("K");
  app.footer([] { return kExamples + describe_options(); });
  parse(app, arguments);

  const std::vector<StageRecipe> stages =
      load_recipe(recipe, overrides, {"model.path", "data.train", "train.run"});
  for (const StageRecipe& stage : stages) {
    // Before any process starts; a plan has a mesh of its own.
    if (app.count("--nproc") > 0 && stage.recipe.train.plan.empty())
      mesh_of_processes(stage.recipe.parallel, num_processes);
    GIMBAL_USER_CHECK(max_restarts == 0 || stage.recipe.train.resume,
                      "--max-restarts needs train.resume=true: a job that is started again goes on "
                      "from the checkpoints of its run folder");
  }
  Arguments words = {"train", recipe};
  words.insert(words.end(), overrides.begin(), overrides.end());
  exec_run(words, num_processes, max_restarts);
}

}  // namespace

Command train_command() { return {"train", "Train a model as a recipe says", run_train}; }

}  // namespace gimbal::cli
