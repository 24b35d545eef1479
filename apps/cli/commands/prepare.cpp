// gimbal prepare: conversations and pictures to a dataset folder. Python does the work; a recipe is
// resolved here.
#include <algorithm>
#include <iostream>
#include <nlohmann/json.hpp>

#include "apps/cli/command.h"
#include "apps/cli/process.h"
#include "gimbal/config/load.h"

namespace gimbal::cli {
namespace {

constexpr const char* kRecipeHelp =
    "Usage: gimbal prepare RECIPE.yaml [key=value ...] [--option[=value] ...]\n"
    "       gimbal prepare --model FOLDER --data FILE ... --out DATASET [options]\n"
    "\n"
    "With a recipe, model.path and the section prepare are used. key=value overrides them; options "
    "of\n"
    "the second form may follow as one word (--overwrite, --image-max-patches=6).\n"
    "\n"
    "Examples:\n"
    "  gimbal prepare recipe.yaml\n"
    "  gimbal prepare recipe.yaml prepare.out=data/small prepare.max_tokens=2048\n"
    "  gimbal prepare --model models/tiny --data train.jsonl --out data/train\n"
    "\n"
    "The second form:\n"
    "\n";

bool is_recipe(const std::string& word) {
  return word.ends_with(".yaml") || word.ends_with(".yml");
}

// The keys that the Python side takes with --config: the section prepare and the model folder.
std::string python_config(const Recipe& recipe) {
  const auto all = nlohmann::ordered_json::parse(to_json(recipe));
  nlohmann::ordered_json config = {{"model", recipe.model.path}};
  config.update(all.at("prepare"));
  return config.dump();
}

int run_prepare(const Arguments& arguments) {
  Arguments words = {"prepare"};
  const bool help = std::any_of(arguments.begin(), arguments.end(), [](const std::string& word) {
    return word == "--help" || word == "-h";
  });
  if (help) {
    std::cout << kRecipeHelp << std::flush;
    words.emplace_back("--help");
    exec_python(words);
  }
  if (arguments.empty() || !is_recipe(arguments.front())) {
    words.insert(words.end(), arguments.begin(), arguments.end());
    exec_python(words);
  }
  std::vector<std::string> overrides;
  Arguments flags;
  for (auto word = arguments.begin() + 1; word != arguments.end(); ++word) {
    (word->starts_with("-") ? flags : overrides).push_back(*word);
  }
  const std::vector<StageRecipe> stages =
      load_recipe(arguments.front(), overrides, {"model.path", "prepare.out", "prepare.sources"});
  words.emplace_back("--config");
  words.push_back(inherited_file(python_config(stages.front().recipe)));
  words.insert(words.end(), flags.begin(), flags.end());
  exec_python(words);
}

}  // namespace

Command prepare_command() {
  return {"prepare", "Turn conversations and pictures into a dataset folder", run_prepare};
}

}  // namespace gimbal::cli
