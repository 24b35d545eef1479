// gimbal evaluate: checks folders and options, then hands over to gimbal-run.
#include "apps/cli/command.h"
#include "apps/cli/process.h"
#include "gimbal/config/load.h"

namespace gimbal::cli {
namespace {

constexpr const char* kExamples =
    "Examples:\n"
    "  gimbal evaluate --model runs/demo/hf --data data/test\n"
    "  gimbal evaluate --model MODEL --data DATASET --json out.json evaluate.max_new_tokens=16\n"
    "  gimbal evaluate --model MODEL --data DATASET evaluate.generate=false model.dtype=bfloat16\n"
    "  gimbal evaluate --model MODEL --data DATASET --nproc 4 parallel.dp_shard=2 parallel.pp=2\n"
    "  gimbal evaluate --model MODEL --data DATASET --nproc 4 train.plan=plan.json\n"
    "\n"
    "KEY=VALUE takes the recipe options of `gimbal train --help`; parallel.* says how the model "
    "is\n"
    "spread over the processes, by default a whole copy in each. With train.plan it is spread as "
    "the plan's\n"
    "mesh and stages say.\n";

int run_evaluate(const Arguments& arguments) {
  CLI::App app("Loss and exact match of a model on a dataset.", "gimbal evaluate");
  std::string model;
  std::string data;
  std::string json;
  std::string predictions;
  std::vector<std::string> overrides;
  int num_processes = 1;
  app.add_option("--model", model, "Hugging Face model folder")->required()->option_text("FOLDER");
  app.add_option("--data", data, "Dataset folder")->required()->option_text("DATASET");
  app.add_option("--json", json, "File for the figures")->option_text("FILE");
  app.add_option("--predictions", predictions, "File for each sample's answer (JSON lines)")
      ->option_text("FILE");
  app.add_option("--nproc", num_processes, "Processes to start on this machine")
      ->check(process_count())
      ->option_text("N");
  app.add_option("KEY=VALUE", overrides, "Options of evaluate, balance, model, parallel, ...")
      ->option_text("...");
  app.footer(kExamples);
  parse(app, arguments);

  require_folder("--model", model, "config.json", "a Hugging Face model folder");
  require_folder("--data", data, "manifest.json", "a finished dataset folder (gimbal prepare)");
  std::vector<std::string> checked = overrides;
  checked.push_back("model.path=" + model);
  checked.push_back("data.eval=" + data);
  load_recipe("", checked);
  Arguments words = {"evaluate", "--model", model, "--data", data};
  if (!json.empty()) words.insert(words.end(), {"--json", json});
  if (!predictions.empty()) words.insert(words.end(), {"--predictions", predictions});
  words.insert(words.end(), overrides.begin(), overrides.end());
  exec_run(words, num_processes);
}

}  // namespace

Command evaluate_command() {
  return {"evaluate", "Loss and exact match of a model on a dataset", run_evaluate};
}

}  // namespace gimbal::cli
