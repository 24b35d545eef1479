// What `gimbal plan` has found or been given.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "apps/cli/plan/arguments.h"
#include "apps/cli/plan/input.h"
#include "gimbal/plan/fit_check.h"
#include "gimbal/plan/plan.h"

namespace gimbal::cli {

struct PlanOutcome {
  PlanResult result;                                // of a given plan: `best` alone
  std::vector<Plan> compared;                       // --compare
  std::vector<FullPeak> top_peaks, compared_peaks;  // of the plans that are shown
  std::optional<FitCheck> fit;                      // --check
  std::string explanation;                          // --explain
};

/// Searches a plan, or predicts `given`, and does what else is asked for.
PlanOutcome plan_outcome(const PlanArguments& arguments, const PlanSetup& setup,
                         const std::optional<Plan>& given);

/// Tables and sentences that end with a newline.
std::string plan_text(const PlanArguments& arguments, const PlanSetup& setup,
                      const PlanOutcome& outcome);

}  // namespace gimbal::cli
