#include "gimbal/train/step.h"

#include <ATen/ops/empty.h>

#include <chrono>
#include <cmath>

#include "gimbal/base/error.h"
#include "gimbal/optim/clip.h"
#include "gimbal/train/block_levels.h"
#include "gimbal/train/out_of_memory.h"
#include "gimbal/train/stop_signal.h"

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
                       ParameterStore& store, AdamW& optimizer, const ParameterGroups& groups,
                       RunMeasurements& measurements, Runtime& runtime)
    : recipe_(recipe),
      dataset_(dataset),
      store_(store),
      optimizer_(optimizer),
      groups_(groups),
      measurements_(measurements),
      runtime_(runtime),
      tape_(model, store, block_levels(recipe.model, model.desc)) {}

StepRunner::LocalResult StepRunner::run_micro_batches(const StepPlan& plan, BatchStream& stream) {
  LocalResult local;
  // The normaliser is the same on all ranks, so the summed gradients are those of one process on
  // the whole step.
  const double seed = plan.loss_tokens == 0 ? 0.0 : 1.0 / static_cast<double>(plan.loss_tokens);
  for (std::size_t i = 0; i < plan.micro_batches.size(); ++i) {
    const Batch batch = to_device(stream.next_batch(), runtime_.device);
    measurements_.begin_micro_batch();
    StopWatch watch;
    try {
      const PassContext context{batch, PassKind::kLoss, nullptr, recipe_.train.loss_chunk_rows};
      const double loss = tape_.forward(context).item<double>();
      local.times.forward += watch.lap();
      measurements_.end_forward();
      tape_.backward(seed, i + 1 == plan.micro_batches.size());
      local.times.backward += watch.lap();
      measurements_.end_micro_batch(work_of_samples(dataset_, plan.micro_batches[i]));
      local.loss_sum += loss;
      if (!std::isfinite(loss)) {
        local.bad_samples.insert(local.bad_samples.end(), batch.samples.begin(),
                                 batch.samples.end());
      }
    } catch (const std::exception& error) {
      if (!is_out_of_memory(error)) throw;
      throw UserError(out_of_memory_message(dataset_, batch, error.what()));
    }
  }
  local.times.data_wait = stream.take_wait_seconds();
  return local;
}

void StepRunner::exchange(const StepPlan& plan, const LocalResult& local, StepResult& result) {
  const StepTimes& t = local.times;
  const double values[] = {local.loss_sum, t.data_wait,   t.forward,
                           t.backward,     t.reduce_wait, static_cast<double>(stop_signal())};
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
  }
  result.loss = plan.loss_tokens == 0 ? 0.0 : loss_sum / static_cast<double>(plan.loss_tokens);
}

void StepRunner::name_bad_samples(const StepPlan& plan, const LocalResult& local,
                                  StepResult& result) {
  // A finite loss with a non-finite gradient points at no micro-batch: then all samples of the step
  // are suspects.
  std::vector<std::uint32_t> suspects = local.bad_samples;
  if (std::isfinite(result.loss)) {
    for (const auto& part : plan.micro_batches)
      suspects.insert(suspects.end(), part.begin(), part.end());
  }
  std::string names;
  for (const std::uint32_t sample : suspects) names += dataset_.describe_sample(sample) + "\n";
  for (const std::string& of_rank :
       all_gather_bytes(*runtime_.comm, names, "samples of a bad step")) {
    for (std::size_t begin = 0; begin < of_rank.size();) {
      const std::size_t end = of_rank.find('\n', begin);
      result.bad_samples.push_back(of_rank.substr(begin, end - begin));
      begin = end + 1;
    }
  }
}

StepResult StepRunner::run(const StepPlan& plan, BatchStream& stream, double lr) {
  store_.begin_step();
  measurements_.begin_step();
  tape_.set_observer(measurements_.is_timing()
                         ? [this](std::size_t block, bool backward,
                                  bool begin) { measurements_.note(block, backward, begin); }
                         : TapeObserver());
  LocalResult local = run_micro_batches(plan, stream);
  StopWatch watch;
  store_.finish_reduce();
  local.times.reduce_wait = watch.lap();

  StepResult result;
  exchange(plan, local, result);
  watch.lap();
  const at::Tensor norm = global_norm(store_.shards());
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
  updating_ = false;
  store_.values_changed();
  result.times[static_cast<std::size_t>(runtime_.comm->rank())].optimizer = watch.lap();
  return result;
}

}  // namespace gimbal
