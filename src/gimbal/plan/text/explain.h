// A plan in words and tables.
#pragma once

#include <string>
#include <vector>

#include "gimbal/plan/fit_check.h"
#include "gimbal/plan/plan.h"
#include "gimbal/plan/planner.h"

namespace gimbal {

/// The plan as a table: mesh, caps, schedule; per stage its blocks, levels, seconds and bytes; the
/// step's time by part, the bound and the gap.
std::string plan_table(const Plan& plan);
/// One line per plan, best first: mesh, schedule, caps, recompute, seconds of a step and of a
/// sample, ratio of the latter to the first, gap to its bound, peak bytes and
/// whether it fits, by `peaks` (full_peaks).
std::string top_table(const std::vector<Plan>& plans, const std::vector<FullPeak>& peaks);
/// One line per plan: method, step seconds, ratio to the first, bubble, imbalance, recompute,
/// communication, peak bytes and whether it fits, by `peaks` (full_peaks). Without them, by what
/// the simulated steps hold.
std::string comparison_table(const std::vector<Plan>& plans,
                             const std::vector<FullPeak>& peaks = {});
/// Why this plan: which resource binds, what the alternatives next to it would have cost, what each
/// pass gained, what to change to get faster. Plain sentences, from the result's figures only.
std::string explain_plan(const PlanInput& input, const PlanResult& result);

}  // namespace gimbal
