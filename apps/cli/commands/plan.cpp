// gimbal plan: finds how to train a model on given devices, and says what that will take.
#include <iostream>
#include <optional>
#include <utility>

#include "apps/cli/command.h"
#include "apps/cli/plan/arguments.h"
#include "apps/cli/plan/input.h"
#include "apps/cli/plan/json.h"
#include "apps/cli/plan/notes.h"
#include "apps/cli/plan/outcome.h"
#include "gimbal/base/file.h"
#include "gimbal/base/log.h"
#include "gimbal/plan/file/plan_file.h"

namespace gimbal::cli {
namespace {

int run_plan(const Arguments& words) {
  const PlanArguments arguments = parse_plan_arguments(words);
  std::optional<Plan> given;
  if (!arguments.plan_file.empty()) given = load_plan(arguments.plan_file);
  PlanSetup setup = given ? read_plan_setup(arguments.input, *given, arguments.plan_file)
                          : read_plan_setup(arguments.input);
  const PlanOutcome outcome = plan_outcome(arguments, setup, given);
  for (std::string& note : plan_notes(arguments.input, setup.stage, outcome.result.best)) {
    setup.notes.push_back(std::move(note));
  }
  for (const std::string& note : setup.notes) log_info(note);

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
