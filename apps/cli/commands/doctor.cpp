// gimbal doctor: gimbal-run looks at the machine, the processes and their connections.
#include <algorithm>
#include <iterator>

#include "apps/cli/command.h"
#include "apps/cli/process.h"
#include "gimbal/base/error.h"
#include "gimbal/config/load.h"

namespace gimbal::cli {
namespace {

constexpr const char* kExamples =
    "Examples:\n"
    "  gimbal doctor\n"
    "  gimbal doctor recipe.yaml --nproc 2\n"
    "  gimbal doctor --nproc 4 --mesh pp=2,dp_shard=2\n"
    "  srun gimbal doctor recipe.yaml --json\n"
    "\n"
    "Checks that all processes run the same program and libtorch and, with a recipe, see the same "
    "recipe,\n"
    "datasets and plan, and whether its mesh can divide its model; makes the groups of the mesh "
    "and times\n"
    "every link, on the recipe's train.device with its train.threads and, where it says one, its\n"
    "train.timeout_seconds (else 60). Without --nproc the variables of torchrun, srun or mpirun "
    "are used;\n"
    "without those, one process. Exit code 0: no problem, 1: there is one. Warnings (more "
    "processes than\n"
    "cores) do not count. KEY=VALUE takes the recipe options of `gimbal train --help`.\n";

/// "pp=2,dp_shard=2" as overrides of the recipe: the whole mesh, of which the recipe has no say.
/// `given`: the overrides that the user has named.
std::vector<std::string> overrides_of_mesh(const std::string& mesh,
                                           const std::vector<std::string>& given) {
  if (mesh.empty()) return {};
  // Later words win. Cuts and plans of another mesh do not fit this one.
  std::vector<std::string> overrides{
      "parallel.pp=1", "parallel.dp_replicate=0",  "parallel.dp_shard=1", "parallel.sp=1",
      "parallel.tp=1", "parallel.stage_starts=[]", "train.plan="};
  for (const std::string& word : given) {
    const std::string key = word.substr(0, word.find('='));
    const bool is_of_mesh = std::ranges::any_of(overrides, [&key](const std::string& override) {
      return override.substr(0, override.find('=')) == key;
    });
    GIMBAL_USER_CHECK(!is_of_mesh, "--mesh ", mesh, " and ", word,
                      ": --mesh stands for all axes. Leave one of the two out.");
  }
  for (std::size_t begin = 0; begin < mesh.size();) {
    const std::size_t end = std::min(mesh.find(',', begin), mesh.size());
    const std::string part = mesh.substr(begin, end - begin);
    const std::string axis = part.substr(0, part.find('='));
    const bool known = axis == "pp" || axis == "dp_replicate" || axis == "dp_shard" ||
                       axis == "sp" || axis == "tp";
    GIMBAL_USER_CHECK(known && part.size() > axis.size() + 1, "--mesh ", mesh, ": '", part,
                      "' is not AXIS=SIZE with an axis pp, dp_replicate, dp_shard, sp or tp");
    overrides.push_back("parallel." + part);
    begin = end + 1;
  }
  return overrides;
}

int run_doctor(const Arguments& arguments) {
  CLI::App app("Check this machine, the processes of a run and their connections.",
               "gimbal doctor");
  std::vector<std::string> words;
  std::string mesh;
  int num_processes = 1;
  bool json = false;
  app.add_option("RECIPE", words, "Recipe file (YAML), and KEY=VALUE that replace options")
      ->option_text("FILE ...");
  app.add_option("--nproc", num_processes, "Processes to start on this machine")
      ->check(process_count())
      ->option_text("N");
  app.add_option(
         "--mesh", mesh,
         "Axes to test, such as pp=2,dp_shard=2, in place of all axes of the recipe and its "
         "plan: those that are left out are 1 (dp_replicate: the processes that the others "
         "leave)")
      ->option_text("AXES");
  app.add_flag("--json", json, "Print JSON");
  app.footer(kExamples);
  parse(app, arguments);

  const bool has_recipe = !words.empty() && words.front().find('=') == std::string::npos;
  std::vector<std::string> overrides(words.begin() + (has_recipe ? 1 : 0), words.end());
  std::ranges::move(overrides_of_mesh(mesh, overrides), std::back_inserter(overrides));
  load_recipe(has_recipe ? words.front() : "", overrides);
  Arguments run{"doctor"};
  if (has_recipe) run.insert(run.end(), {"--recipe", words.front()});
  if (json) run.push_back("--json");
  run.insert(run.end(), overrides.begin(), overrides.end());
  exec_run(run, num_processes);
}

}  // namespace

Command doctor_command() {
  return {"doctor", "Check this machine and the installation", run_doctor};
}

}  // namespace gimbal::cli
