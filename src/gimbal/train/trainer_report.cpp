// What the trainer says of a run before its first step and after its last.
#include <ATen/Parallel.h>

#include <algorithm>

#include "gimbal/base/file.h"
#include "gimbal/base/json.h"
#include "gimbal/config/enums.h"
#include "gimbal/config/load.h"
#include "gimbal/profile/machine.h"
#include "gimbal/profile/memory.h"
#include "gimbal/train/block_levels.h"
#include "gimbal/train/follow_plan.h"
#include "gimbal/train/trainer.h"

namespace gimbal {

MemorySetting Trainer::memory_setting() const {
  MemorySetting setting;
  setting.master_bytes = static_cast<int>(c10::elementSize(master_dtype(recipe_.model.dtype)));
  setting.compute_bytes = static_cast<int>(c10::elementSize(compute_dtype(recipe_.model.dtype)));
  setting.frozen = frozen_blocks_;
  setting.levels = block_levels(recipe_.model, model_.desc);
  setting.loss_chunk_rows = recipe_.train.loss_chunk_rows;
  return setting;
}

MemoryFit Trainer::find_fit() {
  MemoryFit fit =
      find_memory_fit(*planner_, dataset_, position_.epoch, model_.desc, memory_setting());
  if (plan_ && !plan_->prediction.peak_bytes.empty())
    fit.planned_bytes = plan_->prediction.peak_bytes.front();
  fit.machine_bytes = machine_memory_bytes(runtime_.device, runtime_.launch.local_world_size);
  if (runtime_.device.is_cpu()) {
    // The parameters are in memory already.
    fit.program_bytes =
        std::max(0.0, static_cast<double>(resident_bytes()) - fit.memory.parameter_bytes);
  }
  return fit;
}

void Trainer::write_recipe_and_plan() const {
  // The recipe names the plan's copy, so that is there first.
  if (plan_) save_plan_copy(*plan_, run_folder_);
  write_file_atomic(run_folder_ / "recipe.yaml",
                    to_yaml({with_plan_copy({recipe_.name, recipe_}, run_folder_)}));
  // One that the run has followed before.
  if (!plan_) std::filesystem::remove(plan_copy(run_folder_));
}

RunSummary Trainer::make_summary() {
  RunSummary summary;
  summary.run = run_folder_.string();
  summary.model_type = model_.type;
  summary.dtype = enum_name(recipe_.model.dtype);
  for (const ParameterPtr& parameter : model_.parameters()) {
    summary.parameters += static_cast<std::uint64_t>(parameter->numel());
    if (parameter->trainable)
      summary.trainable_parameters += static_cast<std::uint64_t>(parameter->numel());
  }
  summary.dataset = recipe_.data.train;
  summary.samples = dataset_.num_samples();
  WorkSize work;
  const std::vector<double> weights =
      sampler_options(recipe_, dataset_, model_.desc).source_weights;
  const Screening& screening = planner_->screening();
  for (std::size_t i = 0; i < dataset_.num_samples(); ++i) {
    const SampleRecord& record = dataset_.sample(i);
    const double weight = weights.empty() ? 1.0 : weights[record.source];
    const double tokens = record.num_tokens;
    summary.tokens += record.num_tokens;
    summary.media += record.num_media;
    const bool rejected = !screening.fate.empty() && screening.fate[i] == 1;
    if (rejected) continue;
    work.text_rows += weight * tokens;
    work.text_pairs += weight * tokens * tokens;
    work.loss_rows += weight * record.num_loss_tokens;
    work.vision_rows += weight * record.vision_rows;
  }
  summary.balance = planner_->report(position_.epoch);
  for (const Rejection& sample : screening.rejected)
    summary.rejected.push_back(dataset_.describe_sample(sample.sample) + ": " + sample.reason);
  summary.step_flops = training_flops(model_.desc, work, frozen_blocks_) /
                       static_cast<double>(planner_->steps_in(position_.epoch));
  summary.fit = find_fit();
  summary.program_bytes = resident_bytes();
  summary.ranks = runtime_.comm->size();
  summary.threads = at::get_num_threads();
  summary.peak_flops = peak_flops_;
  summary.first_step = step_;
  summary.total_steps = total_steps_;
  return summary;
}

PredictionReport Trainer::compare_with_prediction() {
  // A run of one step has nothing but its slow first one.
  const double step_seconds =
      timed_steps_ > 0 ? timed_seconds_ / static_cast<double>(timed_steps_) : elapsed_seconds_;
  const Json own{{"peak", to_json(measurements_.peak())},
                 {"times", to_json(measurements_.times())}};
  std::vector<MeasuredPeak> peaks;
  MeasuredTimes times;
  for (const std::string& text : all_gather_bytes(*runtime_.comm, own.dump(), "measurements")) {
    const Json of_rank = Json::parse(text);
    peaks.push_back(measured_peak(of_rank.at("peak")));
    times.add(measured_times(of_rank.at("times")));
  }
  return compare_prediction(step_, plan_, recipe_.train.plan, peaks, times, step_seconds);
}

}  // namespace gimbal
