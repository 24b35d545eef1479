// The figures of `gimbal plan` for machines. The keys are described in docs/planning.md.
#pragma once

#include <string>

#include "apps/cli/plan/outcome.h"
#include "gimbal/base/json.h"

namespace gimbal::cli {

/// Everything that was asked for.
OrderedJson plan_json(const PlanArguments& arguments, const PlanSetup& setup,
                      const PlanOutcome& outcome);

}  // namespace gimbal::cli
