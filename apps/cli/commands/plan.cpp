// gimbal plan: finds how to train a model on given devices, and says what that will take.
#include <filesystem>
#include <iostream>
#include <optional>

#include "apps/cli/command.h"
#include "apps/cli/plan/arguments.h"
#include "apps/cli/plan/input.h"
#include "apps/cli/plan/json.h"
#include "apps/cli/plan/outcome.h"
#include "gimbal/base/error.h"
#include "gimbal/base/file.h"
#include "gimbal/base/log.h"
#include "gimbal/plan/plan_file.h"

namespace gimbal::cli {
namespace {

// Before the work, not after it.
void require_output_folder(const std::string& option, const std::string& file) {
  if (file.empty() || file == "-") return;
  const std::filesystem::path folder = std::filesystem::path(file).parent_path();
  GIMBAL_USER_CHECK(folder.empty() || std::filesystem::is_directory(folder), option, " ", file,
                    ": there is no folder ", folder.string(), "; make it first");
}

int run_plan(const Arguments& words) {
  const PlanArguments arguments = parse_plan_arguments(words);
  require_output_folder("--out", arguments.out_file);
  require_output_folder("--json", arguments.json_file);
  std::optional<Plan> given;
  if (!arguments.plan_file.empty()) given = load_plan(arguments.plan_file);
  const PlanSetup setup = given ? read_plan_setup(arguments.input, *given, arguments.plan_file)
                                : read_plan_setup(arguments.input);
  for (const std::string& note : setup.notes) log_info(note);
  const PlanOutcome outcome = plan_outcome(arguments, setup, given);

  if (!arguments.out_file.empty()) save_plan(outcome.result.best, arguments.out_file);
  const auto json = [&] { return plan_json(arguments, setup, outcome).dump(2); };
  if (arguments.json_file == "-") {
    std::cout << json() << std::endl;
  } else {
    if (!arguments.json_file.empty()) write_file_atomic(arguments.json_file, json() + "\n");
    std::cout << plan_text(arguments, setup, outcome) << std::flush;
  }
  return outcome.fit && !outcome.fit->fits ? 1 : 0;
}

}  // namespace

Command plan_command() {
  return {"plan", "Find mesh, caps, cuts and recompute, with time and memory", run_plan};
}

}  // namespace gimbal::cli
