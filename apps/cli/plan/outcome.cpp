#include "apps/cli/plan/outcome.h"

#include <algorithm>

#include "gimbal/plan/explain.h"
#include "gimbal/plan/planner.h"

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
  if (arguments.compare) outcome.compared = compare_methods(setup.input, result.best);
  if (arguments.check) outcome.fit = check_plan_fit(setup.input, result.best);
  if (arguments.explain) outcome.explanation = explain_plan(setup.input, result);
  return outcome;
}

std::string plan_text(const PlanArguments& arguments, const PlanSetup& setup,
                      const PlanOutcome& outcome) {
  const std::vector<Plan>& top = outcome.result.top;
  std::string text = plan_table(outcome.result.best);
  if (arguments.top > 1) {
    const std::size_t count = std::min(arguments.top, top.size());
    text += "\n" + top_table({top.begin(), top.begin() + static_cast<std::ptrdiff_t>(count)});
  }
  if (arguments.compare) text += "\n" + comparison_table(outcome.compared);
  if (arguments.explain) text += "\n" + outcome.explanation;
  if (outcome.fit) text += "\n" + fit_text(*outcome.fit, setup.samples.table);
  return text;
}

}  // namespace gimbal::cli
