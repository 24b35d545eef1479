#include "gimbal/train/trainer/step.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/stack.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "gimbal/base/error.h"
#include "gimbal/optim/clip.h"
#include "gimbal/plan/packed_work.h"
#include "gimbal/train/stop/out_of_memory.h"
#include "gimbal/train/stop/stop_signal.h"
#include "gimbal/train/tape/block_levels.h"

namespace gimbal {
namespace {

/// Seconds since its making or the last call.
class StopWatch {
 public:
  double lap() {
    const auto now = std::chrono::steady_clock::now();
    const double seconds = std::chrono::duration<double>(now - last_).count();
    last_ = now;
    return seconds;
  }

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

}  // namespace

StepRunner::StepRunner(const Recipe& recipe, const Dataset& dataset, const Model& model,
                       const Placement& placement, ParameterStore& store, AdamW& optimizer,
                       const ParameterGroups& groups, RunMeasurements& measurements,
                       Runtime& runtime)
    : recipe_(recipe),
      dataset_(dataset),
      placement_(placement),
      store_(store),
      optimizer_(optimizer),
      groups_(groups),
      measurements_(measurements),
      runtime_(runtime),
      stages_(model, store,
              {placement.layout().stages, placement.mesh().at().pp, placement.layout().mesh.pp,
               block_levels(recipe.model, model.desc), placement.layout().splits_backward(),
               compute_dtype(recipe.model.dtype), recipe.train.loss_chunk_rows}) {}

StepRunner::LocalResult StepRunner::run_micro_batches(const StepPlan& plan, BatchStream& stream) {
  LocalResult local;
  // The normaliser is the same on all ranks, so the summed gradients are those of one process on
  // the whole step.
  const double seed = plan.loss_tokens == 0 ? 0.0 : 1.0 / static_cast<double>(plan.loss_tokens);
  const Schedule schedule = placement_.layout().make(plan.micro_batches().size());
  const auto next_batch = [&] { return to_device(stream.next_batch(), runtime_.device); };
  stages_.begin(schedule, next_batch, seed);
  try {
    run_actions(plan, schedule, local.times);
  } catch (const std::exception& error) {
    const Batch* batch = stages_.running_batch();
    if (!is_out_of_memory(error) || batch == nullptr) throw;
    throw UserError(out_of_memory_message(dataset_, *batch, error.what()));
  }
  sum_losses(plan, local);
  local.times.data_wait = stream.take_wait_seconds();
  return local;
}

void StepRunner::run_actions(const StepPlan& plan, const Schedule& schedule, StepTimes& times) {
  // Micro-batches overlap in a pipeline: there the peak is that of the step.
  const bool overlap = schedule.num_stages > 1;
  WorkSize largest;
  for (const auto& samples : plan.micro_batches())
    raise_to(largest, work_of_samples(dataset_, samples));
  if (overlap) measurements_.begin_micro_batch();
  StopWatch watch;
  run_schedule(
      schedule, placement_.pipeline_groups(), stages_, [&](const Action& action, bool begin) {
        const bool forward = action.kind == ActionKind::kForward;
        if (begin) {
          // Waiting for data is no work, and the batch no activation.
          if (forward) stages_.prepare(action.micro_batch);
          if (forward && !overlap) measurements_.begin_micro_batch();
          watch.lap();
          return;
        }
        (forward ? times.forward : times.backward) += watch.lap();
        if (forward || overlap) {
          measurements_.pause();
          return;
        }
        const auto index = static_cast<std::size_t>(action.micro_batch);
        measurements_.end_micro_batch(work_of_samples(dataset_, plan.micro_batches()[index]));
      });
  if (!overlap) return;
  const auto with_samples = std::ranges::count_if(
      plan.micro_batches(), [](const std::vector<std::uint32_t>& part) { return !part.empty(); });
  measurements_.end_micro_batch(largest, static_cast<std::uint64_t>(with_samples));
}

void StepRunner::sum_losses(const StepPlan& plan, LocalResult& local) const {
  const std::vector<at::Tensor> losses = stages_.losses();
  if (losses.empty() || !losses.front().defined()) return;  // of another stage
  // Read once, so that a device is waited for once.
  const at::Tensor values = at::stack(losses).to(at::kCPU, at::kDouble);
  for (std::size_t i = 0; i < losses.size(); ++i) {
    const double loss = values.const_data_ptr<double>()[i];
    if (placement_.counts_loss()) local.loss_sum += loss;
    if (std::isfinite(loss)) continue;
    const auto& samples = plan.micro_batches()[i];
    local.bad_samples.insert(local.bad_samples.end(), samples.begin(), samples.end());
  }
}

void StepRunner::exchange(const StepPlan& plan, const LocalResult& local, bool save_failed,
                          StepResult& result) {
  const StepTimes& t = local.times;
  const double values[] = {local.loss_sum,
                           t.data_wait,
                           t.forward,
                           t.backward,
                           t.reduce_wait,
                           static_cast<double>(stop_signal()),
                           save_failed ? 1.0 : 0.0};
  constexpr std::int64_t kNumValues = std::size(values);
  at::Tensor own = at::empty({kNumValues}, at::kDouble);
  std::copy(std::begin(values), std::end(values), own.mutable_data_ptr<double>());
  const at::Tensor all =
      runtime_.comm->all_gather(own.to(runtime_.device), "step numbers").to(at::kCPU).contiguous();
  const double* row = all.const_data_ptr<double>();
  double loss_sum = 0;
  for (int rank = 0; rank < runtime_.comm->size(); ++rank, row += kNumValues) {
    loss_sum += row[0];
    result.times.push_back({row[1], row[2], row[3], row[4], 0});
    if (result.signal == 0) result.signal = static_cast<int>(row[5]);
    result.save_failed = result.save_failed || row[6] != 0;
  }
  result.loss = plan.loss_tokens == 0 ? 0.0 : loss_sum / static_cast<double>(plan.loss_tokens);
}

void StepRunner::name_bad_samples(const StepPlan& plan, const LocalResult& local,
                                  StepResult& result) {
  // A finite loss with a non-finite gradient points at no micro-batch: then all samples of the step
  // are suspects.
  std::vector<std::uint32_t> suspects;
  if (placement_.counts_loss()) suspects = local.bad_samples;
  if (std::isfinite(result.loss) && placement_.is_first_of_pack()) {
    for (const auto& part : plan.micro_batches())
      suspects.insert(suspects.end(), part.begin(), part.end());
  }
  std::string names;
  for (const std::uint32_t sample : suspects) names += dataset_.describe_sample(sample) + "\n";
  for (const std::string& of_rank :
       all_gather_bytes(*runtime_.comm, names, "samples of a bad step")) {
    for (std::size_t begin = 0; begin < of_rank.size();) {
      const std::size_t end = of_rank.find('\n', begin);
      std::string name = of_rank.substr(begin, end - begin);
      // Ranks that share a pack may all have seen it.
      if (std::ranges::find(result.bad_samples, name) == result.bad_samples.end())
        result.bad_samples.push_back(std::move(name));
      begin = end + 1;
    }
  }
}

StepResult StepRunner::run(const StepPlan& plan, BatchStream& stream, double lr, bool save_failed) {
  measurements_.begin_step();
  store_.begin_step();
  stages_.set_observer(measurements_.is_timing()
                           ? [this](std::size_t block, bool backward,
                                    bool begin) { measurements_.note(block, backward, begin); }
                           : TapeObserver());
  LocalResult local = run_micro_batches(plan, stream);
  StopWatch watch;
  store_.finish_reduce();
  local.times.reduce_wait = watch.lap();

  StepResult result;
  exchange(plan, local, save_failed, result);
  watch.lap();
  const at::Tensor norm = global_norm(store_.shards(), *runtime_.comm);
  result.grad_norm = norm.item<double>();
  result.skipped = !std::isfinite(result.loss) || !std::isfinite(result.grad_norm);
  if (result.skipped) {
    name_bad_samples(plan, local, result);
    return result;
  }
  if (recipe_.optimizer.clip_norm > 0)
    clip_gradients(store_.shards(), norm, recipe_.optimizer.clip_norm);
  updating_ = true;
  optimizer_.step(groups_.rates(lr));
  store_.values_changed();
  updating_ = false;
  result.times[static_cast<std::size_t>(runtime_.comm->rank())].optimizer = watch.lap();
  return result;
}

}  // namespace gimbal
