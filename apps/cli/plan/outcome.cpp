#include "apps/cli/plan/outcome.h"

#include <algorithm>

#include "gimbal/plan/planner.h"
#include "gimbal/plan/text/explain.h"

namespace gimbal::cli {

PlanOutcome plan_outcome(const PlanArguments& arguments, const PlanSetup& setup,
                         const std::optional<Plan>& given) {
  PlanOutcome outcome;
  PlanResult& result = outcome.result;
  if (given) {
    result.best = *given;
    result.best.prediction = predict_plan(setup.input, *given);
    result.top = {result.best};
  } else {
    PlanInput input = setup.input;
    // The search keeps as many as it shows; --explain tells of those beside the best.
    input.num_top = std::max(input.num_top, arguments.top);
    result = make_plan(input);
  }
  if (arguments.compare) {
    outcome.compared = compare_methods(setup.input, result.best);
    outcome.compared_peaks = full_peaks(setup.input, outcome.compared);
  }
  if (arguments.check) outcome.fit = check_plan_fit(setup.input, result.best);
  if (arguments.explain) outcome.explanation = explain_plan(setup.input, result);
  if (arguments.top > 1) {
    result.top.resize(std::min(arguments.top, result.top.size()));
    outcome.top_peaks = full_peaks(setup.input, result.top);
  }
  return outcome;
}

std::string plan_text(const PlanArguments& arguments, const PlanSetup& setup,
                      const PlanOutcome& outcome) {
  std::string text = plan_table(outcome.result.best);
  if (arguments.top > 1) text += "\n" + top_table(outcome.result.top, outcome.top_peaks);
  if (arguments.compare) {
    text += "\n" + comparison_table(outcome.compared, outcome.compared_peaks);
  }
  if (arguments.explain) text += "\n" + outcome.explanation;
  if (outcome.fit) text += "\n" + fit_text(*outcome.fit, setup.samples.table);
  return text;
}

}  // namespace gimbal::cli
