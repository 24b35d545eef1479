// A step of a plan in simulated time.
#pragma once

#include <cstdint>
#include <vector>

#include "gimbal/plan/plan.h"
#include "gimbal/plan/planner.h"
#include "gimbal/sim/step.h"

namespace gimbal::cli {

struct PlanStep {
  Schedule schedule;
  std::vector<int> in_flight;    // per stage
  std::uint64_t num_steps = 0;   // full ones of an epoch
  Bytes capacity_bytes = 0;      // of a device, what is not ours taken off
  StepSimulation simulation;     // with the pipelines of all data-parallel ranks
  std::size_t slowest_rank = 0;  // the data-parallel one whose last backward ends last
};

/// Packs the input's samples as the plan says and runs the step. Throws UserError when the epoch
/// has no such step.
PlanStep simulate_plan_step(const PlanInput& input, const Plan& plan, std::uint64_t step);

}  // namespace gimbal::cli
