#include "apps/cli/simulate/plan_step.h"

#include <algorithm>

#include "gimbal/base/error.h"
#include "gimbal/plan/search/cap_candidates.h"
#include "gimbal/plan/search/evaluator.h"
#include "gimbal/plan/search/predict.h"

namespace gimbal::cli {

PlanStep simulate_plan_step(const PlanInput& input, const Plan& plan, std::uint64_t step) {
  Evaluator evaluator(input);
  const Candidate candidate = candidate_of(plan);
  PackCaps caps;
  caps.rows = plan.caps;
  caps.rows.resize(2);
  const PackedWork packed = *pack_all(input, caps, plan.packs_per_step);
  PlanStep out;
  out.num_steps = evaluator.num_full_steps(candidate, packed);
  GIMBAL_USER_CHECK(step < out.num_steps, "--step: found ", step, ", an epoch has ", out.num_steps,
                    " full steps, the first of which is 0");
  out.capacity_bytes = evaluator.capacity();
  const Evaluator::Pipeline& pipeline = evaluator.pipeline(candidate.schedule);
  out.schedule = pipeline.schedule;
  out.in_flight = pipeline.in_flight;
  const std::vector<WorkSize> work = evaluator.step_work(candidate, packed, step);
  StepInput one;
  one.costs = &evaluator.costs(candidate.mesh, candidate.policy);
  one.layout = &plan.layout;
  one.schedule = &out.schedule;
  one.micro_batches = work;
  one.keep_pipelines = true;
  out.simulation = simulate_step(one);
  const auto& pipelines = out.simulation.pipelines;
  const auto slowest = std::max_element(
      pipelines.begin(), pipelines.end(),
      [](const PipelineResult& a, const PipelineResult& b) { return a.seconds < b.seconds; });
  out.slowest_rank = static_cast<std::size_t>(slowest - pipelines.begin());
  return out;
}

}  // namespace gimbal::cli
