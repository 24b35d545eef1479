// What the trainer says of a run before its first step and after its last.
#include <ATen/Parallel.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "gimbal/base/error.h"
#include "gimbal/base/file.h"
#include "gimbal/base/json.h"
#include "gimbal/base/log.h"
#include "gimbal/config/enums.h"
#include "gimbal/config/load.h"
#include "gimbal/profile/machine.h"
#include "gimbal/profile/memory.h"
#include "gimbal/schedule/in_flight.h"
#include "gimbal/train/layout/follow_plan.h"
#include "gimbal/train/layout/step_warnings.h"
#include "gimbal/train/report/run_output.h"
#include "gimbal/train/report/transport_warnings.h"
#include "gimbal/train/tape/block_levels.h"
#include "gimbal/train/trainer/trainer.h"

namespace gimbal {

MemorySetting Trainer::memory_setting() const {
  MemorySetting setting;
  setting.master_bytes = static_cast<int>(c10::elementSize(master_dtype(recipe_.model.dtype)));
  setting.compute_bytes = static_cast<int>(c10::elementSize(compute_dtype(recipe_.model.dtype)));
  setting.frozen = frozen_blocks_;
  setting.levels = block_levels(recipe_.model, model_.desc);
  setting.loss_chunk_rows = recipe_.train.loss_chunk_rows;
  const RunLayout& layout = placement_.layout();
  setting.sp = layout.mesh.sp;
  setting.tp = layout.mesh.tp;
  setting.dp_shard = layout.mesh.dp_shard;
  setting.reshard = layout.policy == StorePolicy::kReshard;
  setting.prefetch = layout.prefetch;
  // A step of usual length: as many micro-batches as packs come to each data rank.
  const auto packs = static_cast<std::size_t>(recipe_.balance.packs_per_step);
  const auto ranks = static_cast<std::size_t>(layout.mesh.data_parallel());
  const auto parts =
      static_cast<std::size_t>(std::max<std::int64_t>(1, recipe_.balance.micro_batches));
  const std::size_t count = layout.padded_micro_batches((packs + ranks - 1) / ranks * parts);
  setting.micro_batches = static_cast<int>(count);
  setting.split_backward = layout.splits_backward();
  setting.pp = layout.mesh.pp;
  if (layout.stages.size() > 1) {
    for (const BlockRange& stage : placement_.own_stages())
      setting.stages.push_back({stage.begin, stage.end});
    setting.held = fullest_moments(layout.make(count), placement_.mesh().at().pp);
  }
  return setting;
}

MemoryFit Trainer::find_fit() {
  MemoryFit fit =
      find_memory_fit(*planner_, dataset_, position_.epoch, model_.desc, memory_setting());
  const auto own_pp = static_cast<std::size_t>(placement_.mesh().at().pp);
  if (plan_ && plan_->prediction.peak_bytes.size() > own_pp)
    fit.planned_bytes = plan_->prediction.peak_bytes[own_pp];
  fit.machine_bytes = machine_memory_bytes(runtime_.device, runtime_.launch.local_world_size);
  if (runtime_.device.is_cpu()) {
    // The parameters are in memory already.
    fit.program_bytes =
        std::max(0.0, static_cast<double>(resident_bytes()) - fit.memory.parameter_bytes);
  }
  const Mesh& mesh = placement_.mesh();
  fit.coordinates = to_string(mesh.shape(), mesh.at());
  std::vector<MemoryFit> fits;
  for (const std::string& text : all_gather_bytes(*runtime_.comm, encode_fit(fit), "memory fit"))
    fits.push_back(decode_fit(text));
  return tightest_fit(fits);
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
    summary.parameters += static_cast<std::uint64_t>(parameter->full_numel());
    if (parameter->trainable)
      summary.trainable_parameters += static_cast<std::uint64_t>(parameter->full_numel());
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
  summary.waste = planner_->mean_waste(position_.epoch);
  for (const Rejection& sample : screening.rejected)
    summary.rejected.push_back(dataset_.describe_sample(sample.sample) + ": " + sample.reason);
  summary.step_flops = training_flops(model_.desc, work, frozen_blocks_) /
                       static_cast<double>(planner_->steps_in(position_.epoch));
  summary.program_bytes = resident_bytes();
  summary.ranks = runtime_.comm->size();
  summary.mesh = to_string(placement_.layout().mesh);
  summary.threads = at::get_num_threads();
  summary.peak_flops = peak_flops_;
  summary.first_step = step_;
  summary.total_steps = total_steps_;
  return summary;
}

void Trainer::report_start(const std::vector<RankFacts>& rank_facts, const MemoryFit& fit) {
  RunSummary summary = make_summary();
  summary.rank_facts = rank_facts;
  summary.fit = fit;
  log_info(to_text(summary));
  if (!fit.fits()) log_warning(fit_warning(fit));
  if (!output_->samples.gap().empty()) log_warning(output_->samples.gap());
  for (const std::string& note : layout_notes(recipe_.parallel, placement_.layout().mesh))
    log_warning(note);
  for (const std::string& warning :
       step_warnings(recipe_.balance, placement_.layout(), plan_.has_value()))
    log_warning(warning);
  if (plan_) {
    const std::string warning = plan_warning(*plan_, recipe_);
    if (!warning.empty()) log_warning(warning);
  }
  std::vector<RankTransport> transports;
  for (const RankFacts& rank : rank_facts)
    transports.push_back({rank.host, rank.shared_memory_trouble});
  for (const std::string& warning : transport_warnings(transports)) log_warning(warning);
  output_->metrics.write(to_json(summary));
}

std::vector<RankFacts> Trainer::gather_rank_facts() {
  std::array<char, 256> host{};
  GIMBAL_CHECK(gethostname(host.data(), host.size() - 1) == 0, "gethostname");
  const Mesh& mesh = placement_.mesh();
  Json own{{"host", host.data()},
           {"coordinates", to_string(mesh.shape(), mesh.at())},
           {"blocks", Json::array()},
           {"state_bytes", measurements_.current_bytes()},
           {"shared_memory_trouble", runtime_.groups->shared_memory_trouble()}};
  for (const BlockRange& stage : placement_.own_stages()) {
    own["blocks"].push_back(model_.blocks[stage.begin]->name() + " .. " +
                            model_.blocks[stage.end - 1]->name());
  }
  std::vector<RankFacts> facts;
  for (const std::string& text : all_gather_bytes(*runtime_.comm, own.dump(), "facts of ranks")) {
    const Json rank = Json::parse(text);
    facts.push_back({rank.at("host"), rank.at("coordinates"), rank.at("blocks"),
                     rank.at("state_bytes").get<std::uint64_t>(),
                     rank.at("shared_memory_trouble")});
  }
  return facts;
}

PredictionReport Trainer::compare_with_prediction() {
  // A run of one step has nothing but its slow first one.
  const double step_seconds =
      timed_steps_ > 0 ? timed_seconds_ / static_cast<double>(timed_steps_) : elapsed_seconds_;
  double parameters = 0, gradients = 0, optimizer = 0;
  const auto bytes = [](const at::Tensor& tensor) {
    return tensor.defined() ? static_cast<double>(tensor.nbytes()) : 0.0;
  };
  for (const FlatShard& shard : store_->shards()) {
    parameters += bytes(shard.values);
    gradients += bytes(shard.gradients);
  }
  for (const AdamWState& state : optimizer_.states())
    optimizer += bytes(state.first_moment) + bytes(state.second_moment);
  const Json own{{"peak", to_json(measurements_.peak())},
                 {"times", to_json(measurements_.times())},
                 {"bytes", {parameters, gradients, optimizer, measurements_.held_bytes()}}};
  std::vector<RankPeak> peaks;
  MeasuredTimes times;
  for (const std::string& text : all_gather_bytes(*runtime_.comm, own.dump(), "measurements")) {
    const Json of_rank = Json::parse(text);
    const int pp = coordinates_of(placement_.layout().mesh, static_cast<int>(peaks.size())).pp;
    const auto held = of_rank.at("bytes").get<std::vector<double>>();
    peaks.push_back(
        {pp, measured_peak(of_rank.at("peak")), held.at(0), held.at(1), held.at(2), held.at(3)});
    times.add(measured_times(of_rank.at("times")));
  }
  return compare_prediction(step_, plan_, recipe_.train.plan, peaks, times, step_seconds);
}

}  // namespace gimbal
