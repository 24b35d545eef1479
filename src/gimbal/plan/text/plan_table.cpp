// Plans as tables.
#include <algorithm>

#include "gimbal/base/byte_text.h"
#include "gimbal/base/error.h"
#include "gimbal/plan/text/explain.h"
#include "gimbal/plan/text/figures.h"

namespace gimbal {
namespace {

using PlanRow = std::vector<std::string>;

std::string printed_number(const char* format, double value) {
  char text[64];
  std::snprintf(text, sizeof(text), format, value);
  return text;
}

std::string plural(std::uint64_t count, const std::string& word) {
  return count_text(count) + " " + word + (count == 1 ? "" : "s");
}

std::string share_of_step(const Prediction& prediction, Seconds part) {
  const Seconds step = prediction.step.seconds;
  return percent_text(step > 0 ? part / step : 0);
}

std::string step_parts(const Prediction& prediction) {
  const StepTime& step = prediction.step;
  return "compute " + share_of_step(prediction, step.compute) + ", recompute " +
         share_of_step(prediction, step.recompute) + ", communication " +
         share_of_step(prediction, step.communication) + ", bubble " +
         share_of_step(prediction, step.bubble) + ", imbalance " +
         share_of_step(prediction, step.imbalance);
}

// Of the simulated steps: the largest peak of a rank.
FullPeak simulated_peak(const Prediction& prediction) {
  const std::vector<Bytes>& bytes = prediction.peak_bytes;
  const auto most = std::max_element(bytes.begin(), bytes.end());
  if (most == bytes.end()) return {0, 0, true};
  return {*most, static_cast<std::size_t>(most - bytes.begin()),
          *most <= prediction.capacity_bytes};
}

std::string stage_rows(const Plan& plan) {
  const Prediction& prediction = plan.prediction;
  const std::size_t ranks = static_cast<std::size_t>(plan.mesh.pp);
  std::vector<PlanRow> rows{{"stage", "blocks", "recompute", "number", "a micro-batch", "peak",
                             "of " + bytes_text(prediction.capacity_bytes)}};
  for (std::size_t s = 0; s < plan.layout.num_stages(); ++s) {
    const std::size_t begin = plan.layout.stage_begin[s], end = plan.layout.stage_begin[s + 1];
    // Peaks are those of ranks; a rank with several stages shows its peak at the first of them.
    const bool has_peak = s < ranks && s < prediction.peak_bytes.size();
    const bool has_capacity = prediction.capacity_bytes > 0;
    rows.push_back(
        {std::to_string(s), block_range(plan, begin, end), levels_text(plan, begin, end),
         std::to_string(end - begin),
         s < prediction.stage_seconds.size() ? seconds_text(prediction.stage_seconds[s]) : "-",
         has_peak ? bytes_text(prediction.peak_bytes[s]) : "",
         has_peak && has_capacity
             ? percent_text(prediction.peak_bytes[s] / prediction.capacity_bytes)
             : ""});
  }
  return aligned_rows(rows, 3);
}

}  // namespace

std::string plan_table(const Plan& plan) {
  const Prediction& prediction = plan.prediction;
  const int devices = plan.mesh.devices();
  std::string schedule = pipeline_name(plan.schedule.kind);
  if (plan.schedule.stages_per_rank > 1) {
    schedule += ", " + std::to_string(plan.schedule.stages_per_rank) + " stages a rank";
  }
  const std::string shards = plan.mesh.dp_shard == 1 ? ""
                             : plan.shard_policy == ShardPolicy::kReshard
                                 ? "; weights are gathered for each use"
                                 : "; weights are gathered once a step";
  std::string text = "plan     " + plan.method + ": " + plan.model_type + ", " +
                     plural(plan.blocks.size(), "block") + ", " + plan.profile_origin +
                     " profile of " + plan.hardware + ", " + plan.dtype + "\n";
  text += "mesh     " + plural(static_cast<std::uint64_t>(devices), "device") +
          (devices > 1 ? ": " + to_string(plan.mesh) : "") + shards + "\n";
  text += "schedule " + schedule + ", " +
          count_text(static_cast<std::uint64_t>(plan.micro_batches)) +
          (plan.micro_batches == 1 ? " micro-batch" : " micro-batches") + " of each rank\n";
  text += "packs    caps: " + caps_text(plan) + "; " + count_text(plan.packs_per_step) +
          " a step, " + printed_number("%.1f", prediction.samples_per_step) + " samples\n";
  text +=
      "step     " + seconds_text(prediction.step.seconds) + ": " + step_parts(prediction) + "\n";
  text += "bound    " + seconds_text(prediction.bound.seconds()) + " (" +
          bound_name(prediction.bound) + "), gap " + percent_text(bound_gap(prediction)) + "\n";
  text += "speed    " + printed_number("%.0f", prediction.tokens_per_second_per_device) +
          " tokens/s of each device, utilisation " + percent_text(prediction.utilisation) +
          ", epoch " + seconds_text(prediction.epoch_seconds) + "\n";
  return text + stage_rows(plan);
}

std::string top_table(const std::vector<Plan>& plans, const std::vector<FullPeak>& peaks) {
  GIMBAL_CHECK_EQ(plans.size(), peaks.size());
  std::vector<PlanRow> rows{{"", "mesh", "schedule", "caps", "recompute", "step", "a sample",
                             "ratio", "gap", "peak", "fits"}};
  for (std::size_t i = 0; i < plans.size(); ++i) {
    const Plan& plan = plans[i];
    // Plans differ in how many samples a step has, a little: compared is the time of a sample.
    const Prediction &first = plans.front().prediction, &own = plan.prediction;
    const double ratio =
        (own.step.seconds / own.samples_per_step) / (first.step.seconds / first.samples_per_step);
    rows.push_back(
        {std::to_string(i + 1), to_string(plan.mesh),
         std::string(pipeline_name(plan.schedule.kind)) + ", " + std::to_string(plan.micro_batches),
         caps_text(plan), levels_text(plan, 0, plan.blocks.size()), seconds_text(own.step.seconds),
         seconds_text(own.step.seconds / own.samples_per_step), printed_number("%.3f", ratio),
         percent_text(bound_gap(own)), bytes_text(peaks[i].bytes), peaks[i].fits ? "yes" : "no"});
  }
  return aligned_rows(rows, 5);
}

std::string comparison_table(const std::vector<Plan>& plans, const std::vector<FullPeak>& peaks) {
  GIMBAL_CHECK(peaks.empty() || peaks.size() == plans.size(), "peaks of other plans");
  std::vector<PlanRow> rows{{"method", "step", "ratio", "compute", "recompute", "communication",
                             "bubble", "imbalance", "peak", "fits"}};
  for (std::size_t i = 0; i < plans.size(); ++i) {
    const Plan& plan = plans[i];
    const Prediction& own = plan.prediction;
    const StepTime& step = own.step;
    const FullPeak peak = peaks.empty() ? simulated_peak(own) : peaks[i];
    rows.push_back({plan.method, seconds_text(step.seconds),
                    printed_number("%.3f", step.seconds / plans.front().prediction.step.seconds),
                    share_of_step(own, step.compute), share_of_step(own, step.recompute),
                    share_of_step(own, step.communication), share_of_step(own, step.bubble),
                    share_of_step(own, step.imbalance), bytes_text(peak.bytes),
                    peak.fits ? "yes" : "no"});
  }
  return aligned_rows(rows, 1);
}

}  // namespace gimbal
