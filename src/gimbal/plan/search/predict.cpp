#include "gimbal/plan/search/predict.h"

#include <algorithm>

#include "gimbal/base/error.h"
#include "gimbal/cost/model_fingerprint.h"

namespace gimbal {
namespace {

std::vector<Prediction::ClassTime> class_times(const CostModel& costs, const StageLayout& layout,
                                               const WorkSize& mean) {
  std::vector<Prediction::ClassTime> classes;
  for (std::size_t i = 0; i < costs.num_blocks(); ++i) {
    const std::string& name = costs.model().blocks[i].cost_class;
    auto known = std::find_if(classes.begin(), classes.end(),
                              [&](const auto& entry) { return entry.cost_class == name; });
    if (known == classes.end()) known = classes.insert(classes.end(), {name, 0, 0});
    known->forward += costs.forward(i, mean);
    known->backward += costs.backward(i, mean) + costs.recompute(i, mean, layout.recompute[i]);
  }
  return classes;
}

Prediction predict(Evaluator& evaluator, const Candidate& candidate, const StageLayout& layout,
                   const PackedWork& packed) {
  const PlanInput& input = evaluator.input();
  const CostModel& costs = evaluator.costs(candidate.mesh, candidate.policy);
  Prediction prediction;
  const StepSimulation simulated = evaluator.simulate(candidate, layout, packed, kPredictedSteps);
  prediction.step = simulated.time;
  prediction.stage_seconds = simulated.stage_seconds;
  prediction.peak_bytes = simulated.peak_bytes;
  prediction.capacity_bytes = evaluator.capacity();
  const std::vector<std::uint64_t> steps =
      spread(evaluator.num_full_steps(candidate, packed), kPredictedSteps);
  const double ratio = evaluator.work_ratio(candidate, packed, steps);
  for (const std::uint64_t step : steps) {
    const StepBound bound = evaluator.bound(candidate, packed, step);
    const double share = ratio / static_cast<double>(steps.size());
    prediction.bound.work += share * bound.work;
    prediction.bound.critical_path += share * bound.critical_path;
    prediction.bound.memory += share * bound.memory;
    prediction.bound.fill += share * bound.fill;
  }
  const Bytes peak = *std::max_element(prediction.peak_bytes.begin(), prediction.peak_bytes.end());
  if (peak > prediction.capacity_bytes) prediction.bound.memory = 0;  // it does not fit
  const auto packs = static_cast<double>(candidate.packs_per_step);
  const double devices = candidate.mesh.devices();
  prediction.samples_per_step = packs * packed.samples_per_pack;
  prediction.tokens_per_second_per_device =
      packs * packed.mean.text_rows / prediction.step.seconds / devices;
  if (input.profile.peak_flops > 0) {
    const Flops flops = packs * training_flops(input.model, packed.mean, costs.settings().frozen);
    prediction.utilisation = flops / (devices * input.profile.peak_flops * prediction.step.seconds);
  }
  const double steps_per_epoch =
      static_cast<double>(input.samples.size()) / prediction.samples_per_step;
  prediction.epoch_seconds = std::max(1.0, steps_per_epoch) * prediction.step.seconds;
  prediction.classes = class_times(costs, layout, packed.mean);
  return prediction;
}

}  // namespace

Plan complete_plan(Evaluator& evaluator, const Candidate& candidate, const StageLayout& layout,
                   const PackedWork& packed, const std::string& method) {
  const PlanInput& input = evaluator.input();
  Plan plan;
  plan.model_type = input.model.type;
  plan.model_fingerprint = model_fingerprint(input.model);
  plan.profile_origin = input.profile.origin;
  plan.hardware = input.profile.hardware;
  plan.dtype = input.profile.dtype;
  plan.mesh = candidate.mesh;
  plan.streams = {"text"};
  plan.caps = {packed.caps.of(0)};
  if (!input.samples.vision_rows.empty()) {
    plan.streams.push_back("vision");
    plan.caps.push_back(packed.caps.of(1));
  }
  plan.packs_per_step = candidate.packs_per_step;
  plan.micro_batches = candidate.schedule.micro_batches;
  plan.schedule = candidate.schedule;
  plan.shard_policy = candidate.policy;
  for (const BlockDesc& block : input.model.blocks) plan.blocks.push_back(block.name);
  const std::vector<bool>& frozen = input.frozen;
  if (std::find(frozen.begin(), frozen.end(), true) != frozen.end()) plan.frozen = frozen;
  plan.layout = layout;
  plan.method = method;
  plan.prediction = predict(evaluator, candidate, layout, packed);
  verify_plan(plan, input);
  return plan;
}

Candidate candidate_of(const Plan& plan) {
  return {plan.mesh, plan.shard_policy, plan.schedule, plan.packs_per_step};
}

void verify_plan(const Plan& plan, const PlanInput& input) {
  const std::vector<std::size_t>& begins = plan.layout.stage_begin;
  GIMBAL_CHECK_EQ(plan.mesh.devices(), input.devices);
  GIMBAL_CHECK_EQ(plan.schedule.ranks, plan.mesh.pp);
  GIMBAL_CHECK_EQ(begins.size(), static_cast<std::size_t>(plan.schedule.ranks) *
                                         static_cast<std::size_t>(plan.schedule.stages_per_rank) +
                                     1);
  GIMBAL_CHECK_EQ(begins.front(), std::size_t{0});
  GIMBAL_CHECK_EQ(begins.back(), input.model.blocks.size());
  GIMBAL_CHECK(
      std::adjacent_find(begins.begin(), begins.end(), std::greater_equal<>()) == begins.end(),
      "a stage without blocks");
  GIMBAL_CHECK_EQ(plan.layout.recompute.size(), input.model.blocks.size());
  GIMBAL_CHECK_EQ(plan.packs_per_step, static_cast<std::uint64_t>(plan.micro_batches) *
                                           static_cast<std::uint64_t>(plan.mesh.data_parallel()));
}

}  // namespace gimbal
