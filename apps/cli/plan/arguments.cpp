#include "apps/cli/plan/arguments.h"

#include "apps/cli/option_values.h"
#include "apps/cli/output_file.h"
#include "gimbal/base/error.h"

namespace gimbal::cli {
namespace {

constexpr const char* kPlanExamples =
    "Examples:\n"
    "  gimbal plan recipe.yaml --profile profile.json --devices 2 --dp-replicate 2 "
    "--out plan.json\n"
    "  gimbal plan --model MODEL --lengths a.csv b.csv --hardware a100-80g --devices 16 --explain\n"
    "  gimbal plan --model config.json --lengths a.csv --hardware h100-80g --devices 64 --pp 4 "
    "--compare\n"
    "  gimbal plan recipe.yaml --profile profile.json --plan plan.json --check\n"
    "\n"
    "The columns of the files of --lengths are text (or tokens), vision (or tiles, patches) and "
    "loss: the\n"
    "rows of each sample, visual tokens counted as text too. Without loss, every text row that is "
    "no visual\n"
    "token counts for the loss. No GPU is needed. docs/planning.md describes what is computed.\n"
    "Exit code: 0, 1 (--check: does not fit) or 2 (bad input).\n";

void check_plan_outputs(const PlanArguments& arguments, const std::string& top) {
  const bool given = !arguments.plan_file.empty();
  GIMBAL_USER_CHECK(!given || top.empty(),
                    "--top: lists what a search found; with --plan nothing is searched");
  GIMBAL_USER_CHECK(!given || !arguments.explain,
                    "--explain: tells of a search; with --plan nothing is searched");
  GIMBAL_USER_CHECK(!given || arguments.input.without.empty(),
                    "--without: switches passes of a search off; with --plan nothing is searched");
  const PlanInputArguments& input = arguments.input;
  const bool fixed = input.pp || input.tp || input.sp || input.ep || input.dp_shard ||
                     input.dp_replicate || input.schedule || input.stages_per_rank ||
                     !input.caps.empty() || input.search_caps || input.samples_per_step ||
                     input.packs_per_step;
  GIMBAL_USER_CHECK(!given || !fixed,
                    "--plan: the plan says its mesh, schedule, caps and packs per step; leave out "
                    "the options that choose them");
}

}  // namespace

PlanArguments parse_plan_arguments(const Arguments& words) {
  CLI::App app(
      "Finds how to train a model on given devices: mesh, batch caps, schedule, pipeline cuts and "
      "recompute, with its predicted time and memory.",
      "gimbal plan");
  PlanArguments arguments;
  std::string top;
  const PlanInputOptions inputs(app);
  const auto option = [&app](const char* name, auto& value, const char* text, const char* help) {
    return app.add_option(name, value, help)->option_text(text);
  };
  option("--plan", arguments.plan_file, "FILE", "Predict this plan.json instead of searching");
  option("--out", arguments.out_file, "FILE", "Write the plan (plan.json)")
      ->check(output_file(StdoutName::kNo));
  app.add_flag("--explain", arguments.explain, "Say why this plan, in sentences");
  app.add_flag("--compare", arguments.compare, "Show the published methods beside it");
  option("--top", top, "N", "Show the N best plans [1]");
  app.add_flag("--check", arguments.check, "Say whether it fits in memory; exit code 1 if not");
  option("--json", arguments.json_file, "FILE", "The figures; -: on stdout, in place of the text")
      ->check(output_file(StdoutName::kYes));
  app.footer(kPlanExamples);
  parse(app, words);
  if (!top.empty()) arguments.top = whole_number("--top", top, 1, 1000);
  arguments.input = inputs.arguments(!arguments.plan_file.empty());
  check_plan_outputs(arguments, top);
  return arguments;
}

}  // namespace gimbal::cli
