// gimbal profile: an analytic profile here, a measured one by gimbal-run.
#include <algorithm>
#include <iostream>

#include "apps/cli/command.h"
#include "apps/cli/option_values.h"
#include "apps/cli/output_file.h"
#include "apps/cli/process.h"
#include "gimbal/arch/describe.h"
#include "gimbal/base/error.h"
#include "gimbal/base/json.h"
#include "gimbal/config/enums.h"
#include "gimbal/config/load.h"
#include "gimbal/cost/hardware.h"
#include "gimbal/cost/profile_text.h"

namespace gimbal::cli {
namespace {

constexpr const char* kExamples =
    "Examples:\n"
    "  gimbal profile recipe.yaml\n"
    "  gimbal profile recipe.yaml --seconds 60 --out profile.json --nproc 2\n"
    "  gimbal profile --model MODEL model.dtype=bfloat16 balance.text_cap=8192 train.threads=4\n"
    "  gimbal profile --model MODEL --hardware a100-80g --out a100.json\n"
    "\n"
    "Measured: the model's blocks run with random weights on packs like those of data.train (or on "
    "typical\n"
    "samples) up to balance.text_cap; only config.json of the model is read. Of a recipe with "
    "stages, the\n"
    "first. `--hardware` computes costs from a data sheet instead: a name, or a JSON file of your "
    "own\n"
    "(docs/planning.md); then the default of model.dtype is bfloat16.\n"
    "KEY=VALUE takes the recipe options of `gimbal train --help`.\n";

struct ProfileArguments {
  std::string recipe, model, hardware, out = "profile.json";
  std::string seconds = "30", clock = "wall";
  std::vector<std::string> words;  // the recipe, unless --recipe names it, and overrides
  int num_processes = 1;
  bool json = false;
  std::vector<std::string> given;  // options that say how to measure
};

ProfileArguments parse_profile_arguments(const Arguments& arguments) {
  CLI::App app("Measure what a model costs on this machine, or compute it for another.",
               "gimbal profile");
  ProfileArguments result;
  app.add_option("RECIPE", result.words, "Recipe file (YAML), and KEY=VALUE that replace options")
      ->option_text("FILE ...");
  app.add_option("--recipe", result.recipe, "The same recipe file, as an option")
      ->option_text("FILE");
  app.add_option("--model", result.model, "Model folder, instead of a recipe or of its model.path")
      ->option_text("FOLDER");
  app.add_option("--out", result.out, "File for the profile")
      ->check(output_file(StdoutName::kNo))
      ->option_text("FILE (profile.json)");
  app.add_option("--seconds", result.seconds, "Time to measure the blocks")->option_text("S (30)");
  app.add_option("--clock", result.clock,
                 "wall, or cpu: processor time of one thread, where others use the machine")
      ->check(CLI::IsMember({"wall", "cpu"}))
      ->option_text("CLOCK (wall)");
  app.add_option("--hardware", result.hardware, "Compute for this machine; measure nothing")
      ->option_text("NAME");
  app.add_option("--nproc", result.num_processes, "Processes to start on this machine")
      ->check(process_count())
      ->option_text("N");
  app.add_flag("--json", result.json, "Print the profile as JSON instead of a table");
  app.footer(kExamples);
  parse(app, arguments);
  for (const char* option : {"--nproc", "--seconds", "--clock"}) {
    if (app.count(option) > 0) result.given.emplace_back(option);
  }
  const bool names_recipe =
      !result.words.empty() && result.words.front().find('=') == std::string::npos;
  if (names_recipe) {
    GIMBAL_USER_CHECK(result.recipe.empty(), "--recipe ", result.recipe, " and ",
                      result.words.front(), ": give one recipe");
    result.recipe = result.words.front();
    result.words.erase(result.words.begin());
  }
  if (!result.model.empty()) result.words.push_back("model.path=" + result.model);
  GIMBAL_USER_CHECK(!result.recipe.empty() || !result.model.empty(),
                    "gimbal profile needs a recipe or --model FOLDER.\nSee `gimbal profile "
                    "--help`.");
  return result;
}

int write_analytic(const ProfileArguments& arguments, const Recipe& recipe) {
  for (const std::string& option : arguments.given)
    throw UserError(concat(option, ": --hardware measures nothing; leave ", option, " out"));
  const bool knows_dtype =
      !arguments.recipe.empty() || std::ranges::any_of(arguments.words, [](const auto& word) {
        return word.starts_with("model.dtype=");
      });
  const ProfileTable table =
      analytic_profile(describe_model_file(recipe.model.path), find_hardware(arguments.hardware),
                       knows_dtype ? enum_name(recipe.model.dtype) : "bfloat16");
  save_profile(table, arguments.out);
  std::cout << (arguments.json ? to_json(table).dump(2) + "\n" : to_text(table)) << std::flush;
  if (!arguments.json) std::cout << "written to " << arguments.out << "\n";
  return 0;
}

int run_profile(const Arguments& words) {
  const ProfileArguments arguments = parse_profile_arguments(words);
  positive_number("--seconds", arguments.seconds);
  const Recipe recipe =
      load_recipe(arguments.recipe, arguments.words, {"model.path"}).front().recipe;
  if (!arguments.hardware.empty()) return write_analytic(arguments, recipe);
  require_folder("model.path", recipe.model.path, "config.json", "a Hugging Face model folder");
  if (!recipe.data.train.empty()) {
    require_folder(
        "data.train", recipe.data.train, "manifest.json",
        "a finished dataset folder (gimbal prepare), or data.train= for typical samples");
  }
  Arguments run = {"profile",         "--out",   arguments.out,  "--seconds",
                   arguments.seconds, "--clock", arguments.clock};
  if (!arguments.recipe.empty()) run.insert(run.end(), {"--recipe", arguments.recipe});
  if (arguments.json) run.push_back("--json");
  run.insert(run.end(), arguments.words.begin(), arguments.words.end());
  exec_run(run, arguments.num_processes);
}

}  // namespace

Command profile_command() {
  return {"profile", "Measure what a model costs on this machine", run_profile};
}

}  // namespace gimbal::cli
