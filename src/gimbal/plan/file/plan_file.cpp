#include "gimbal/plan/file/plan_file.h"

#include <cmath>

#include "gimbal/base/error.h"
#include "gimbal/base/file.h"
#include "gimbal/config/enums.h"
#include "gimbal/plan/file/block_runs.h"

namespace gimbal {
namespace {

OrderedJson stages_json(const Plan& plan) {
  OrderedJson stages = OrderedJson::array();
  for (std::size_t s = 0; s < plan.layout.num_stages(); ++s) {
    const std::size_t begin = plan.layout.stage_begin[s], end = plan.layout.stage_begin[s + 1];
    GIMBAL_CHECK(begin < end && end <= plan.blocks.size(), "stage ", s);
    OrderedJson runs = OrderedJson::array();
    for (std::size_t i = begin; i < end;) {
      const Recompute level = plan.layout.recompute[i];
      std::size_t next = i;
      while (next < end && plan.layout.recompute[next] == level) ++next;
      runs.push_back({{"level", enum_name(level)}, {"num_blocks", next - i}});
      i = next;
    }
    stages.push_back({{"first", plan.blocks[begin]},
                      {"last", plan.blocks[end - 1]},
                      {"num_blocks", end - begin},
                      {"recompute", std::move(runs)}});
  }
  return stages;
}

// JSON has no infinity and no "not a number".
double finite(double value) {
  GIMBAL_CHECK(std::isfinite(value), "a figure of a plan is ", value);
  return value;
}

std::vector<std::string> frozen_names(const Plan& plan) {
  GIMBAL_CHECK(plan.frozen.empty() || plan.frozen.size() == plan.blocks.size(), "frozen blocks");
  std::vector<std::string> names;
  for (std::size_t i = 0; i < plan.frozen.size(); ++i) {
    if (plan.frozen[i]) names.push_back(plan.blocks[i]);
  }
  return names;
}

OrderedJson prediction_json(const Prediction& prediction) {
  OrderedJson classes = OrderedJson::array();
  for (const Prediction::ClassTime& time : prediction.classes) {
    classes.push_back({{"class", time.cost_class},
                       {"forward", finite(time.forward)},
                       {"backward", finite(time.backward)}});
  }
  const StepTime& step = prediction.step;
  const StepBound& bound = prediction.bound;
  return {{"step",
           {{"seconds", finite(step.seconds)},
            {"compute", finite(step.compute)},
            {"recompute", finite(step.recompute)},
            {"communication", finite(step.communication)},
            {"bubble", finite(step.bubble)},
            {"imbalance", finite(step.imbalance)}}},
          {"bound",
           {{"work", finite(bound.work)},
            {"critical_path", finite(bound.critical_path)},
            {"memory", finite(bound.memory)},
            {"fill", finite(bound.fill)}}},
          {"stage_seconds", prediction.stage_seconds},
          {"peak_bytes", prediction.peak_bytes},
          {"capacity_bytes", finite(prediction.capacity_bytes)},
          {"samples_per_step", finite(prediction.samples_per_step)},
          {"tokens_per_second_per_device", finite(prediction.tokens_per_second_per_device)},
          {"utilisation", finite(prediction.utilisation)},
          {"epoch_seconds", finite(prediction.epoch_seconds)},
          {"micro_batch_seconds", std::move(classes)}};
}

const char* policy_name(ShardPolicy policy) {
  return policy == ShardPolicy::kReshard ? "reshard" : "keep_weights";
}

}  // namespace

OrderedJson to_json(const Plan& plan) {
  OrderedJson caps = OrderedJson::array();
  for (std::size_t k = 0; k < plan.streams.size(); ++k) {
    caps.push_back({{"stream", plan.streams[k]}, {"rows", plan.caps[k]}});
  }
  OrderedJson mesh = OrderedJson::object();
  visit_axes(plan.mesh, [&](const char* axis, int size) { mesh[axis] = size; });
  return {{"gimbal_plan", kPlanFormat},
          {"method", plan.method},
          {"model",
           {{"type", plan.model_type},
            {"fingerprint", plan.model_fingerprint},
            {"blocks", block_runs(plan.blocks)},
            {"frozen", block_runs(frozen_names(plan))}}},
          {"profile",
           {{"origin", plan.profile_origin}, {"hardware", plan.hardware}, {"dtype", plan.dtype}}},
          {"mesh", std::move(mesh)},
          {"shard_policy", policy_name(plan.shard_policy)},
          {"schedule",
           {{"kind", pipeline_name(plan.schedule.kind)},
            {"ranks", plan.schedule.ranks},
            {"stages_per_rank", plan.schedule.stages_per_rank},
            {"micro_batches", plan.schedule.micro_batches}}},
          {"packs",
           {{"caps", std::move(caps)},
            {"per_step", plan.packs_per_step},
            {"micro_batches", plan.micro_batches}}},
          {"stages", stages_json(plan)},
          {"prediction", prediction_json(plan.prediction)}};
}

void save_plan(const Plan& plan, const std::filesystem::path& file) {
  write_file_atomic(file, to_json(plan).dump(2) + "\n");
}

Plan load_plan(const std::filesystem::path& file) {
  return plan_from_json(read_json(file), file.string());
}

}  // namespace gimbal
