#include "gimbal/train/trainer.h"

#include <ATen/ops/tensor.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "gimbal/base/error.h"
#include "gimbal/base/file.h"
#include "gimbal/base/file_lock.h"
#include "gimbal/base/json.h"
#include "gimbal/base/log.h"
#include "gimbal/checkpoint/run_checkpoint.h"
#include "gimbal/config/enums.h"
#include "gimbal/config/load.h"
#include "gimbal/optim/lr_schedule.h"
#include "gimbal/profile/gemm_peak.h"
#include "gimbal/profile/machine.h"
#include "gimbal/train/evaluate.h"
#include "gimbal/train/follow_plan.h"
#include "gimbal/train/preflight.h"
#include "gimbal/train/progress.h"
#include "gimbal/train/run_patterns.h"
#include "gimbal/train/weights.h"

namespace gimbal {
namespace {

/// Goes up with every change of the balancer that changes the order of samples.
constexpr int kOrderVersion = 2;

/// AdamW's state as checkpoints name it.
std::vector<OptimizerTensors> optimizer_tensors(AdamW& optimizer) {
  std::vector<OptimizerTensors> tensors{{"first_moment", {}}, {"second_moment", {}}};
  for (const AdamWState& state : optimizer.states()) {
    tensors[0].per_shard.push_back(state.first_moment);
    tensors[1].per_shard.push_back(state.second_moment);
  }
  return tensors;
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

struct Trainer::Output {
  std::unique_ptr<FileLock> lock;
  MetricsWriter metrics;
  Progress progress;
};

Trainer::Trainer(Recipe recipe, std::optional<Plan> plan, std::filesystem::path run_folder,
                 std::optional<std::filesystem::path> previous_run, Runtime& runtime)
    : recipe_(std::move(recipe)),
      run_folder_(std::move(run_folder)),
      previous_run_(std::move(previous_run)),
      runtime_(runtime),
      plan_(std::move(plan)),
      dataset_(recipe_.data.train),
      processor_(dataset_.image_processor()),
      model_(model_for_training(recipe_)),
      frozen_blocks_(frozen_blocks(model_)),
      measurements_(model_.desc, memory_setting(), runtime.device),
      groups_(recipe_.optimizer, model_.parameters()),
      store_(make_replicated_store(
          model_.blocks, *runtime_.comm, master_dtype(recipe_.model.dtype),
          compute_dtype(recipe_.model.dtype), runtime_.device,
          [this](const Parameter& parameter) { return groups_.group_of(parameter); })),
      optimizer_(store_->shards(), AdamWOptions{recipe_.optimizer.beta1, recipe_.optimizer.beta2,
                                                recipe_.optimizer.eps}),
      rows_(sample_rows(dataset_)) {
  check_same_on_all_ranks(*runtime_.comm, to_yaml({StageRecipe{recipe_.name, recipe_}}), "recipe");
  check_same_on_all_ranks(*runtime_.comm, dataset_.fingerprint(), "dataset");
}

Trainer::~Trainer() = default;

void Trainer::make_planner() {
  const SampleSizes sizes = sample_sizes(rows_);
  SamplerOptions options = sampler_options(recipe_, dataset_, model_.desc);
  options.patterns = patterns_of_run(
      sizes, options, run_folder_, find_latest_checkpoint(run_folder_).has_value(), *runtime_.comm);
  planner_ = std::make_unique<StepPlanner>(dataset_, sizes, std::move(options),
                                           recipe_.balance.micro_batches, runtime_.comm->rank(),
                                           runtime_.comm->size());
}

std::string Trainer::order_fingerprint() const {
  const BalanceConfig& b = recipe_.balance;
  std::string text =
      concat("order=", kOrderVersion, " method=", enum_name(b.method), " text_cap=", b.text_cap,
             " vision_cap=", b.vision_cap, " packs_per_step=", b.packs_per_step,
             " packs_per_slot=", b.packs_per_slot == 0 ? b.packs_per_step : b.packs_per_slot,
             " samples_per_pack=", b.samples_per_pack, " oversize=", enum_name(b.oversize),
             " seed=", recipe_.train.seed, " patterns=", planner_->patterns_fingerprint());
  for (const auto& [name, weight] : recipe_.data.weights) text += concat(" ", name, "=", weight);
  return text;
}

void Trainer::start_weights() {
  if (previous_run_) {
    const auto checkpoint = find_latest_checkpoint(*previous_run_);
    GIMBAL_USER_CHECK(checkpoint, "the stage before, '", previous_run_->string(),
                      "', has no complete checkpoint to start from");
    load_checkpoint_weights(*checkpoint, store_->shards());
    store_->values_changed();
  } else if (recipe_.model.init == WeightInit::kRandom) {
    init_weights(*store_, static_cast<std::uint64_t>(recipe_.train.seed));
  } else {
    load_hf_weights(model_, *store_, recipe_.model.path);
  }
}

bool Trainer::resume() {
  const auto latest = find_latest_checkpoint(run_folder_);
  if (!latest) return false;
  GIMBAL_USER_CHECK(recipe_.train.resume, "the run folder '", run_folder_.string(),
                    "' holds checkpoints and train.resume is false. Choose another train.run, "
                    "remove the folder, or set train.resume=true.");
  const TrainingState state =
      load_checkpoint(*latest, store_->shards(), optimizer_tensors(optimizer_));
  GIMBAL_USER_CHECK(
      state.dataset_fingerprint == dataset_.fingerprint(), "the run in '", run_folder_.string(),
      "' was trained on other data than '", recipe_.data.train,
      "' holds now. Choose another train.run, or give the dataset that the run began with.");
  GIMBAL_USER_CHECK(state.recipe_fingerprint == order_fingerprint(), "the run in '",
                    run_folder_.string(), "' used another order of samples (",
                    state.recipe_fingerprint, ") than this recipe gives (", order_fingerprint(),
                    "). Undo the change, or choose another train.run.");
  optimizer_.set_step_count(state.optimizer_steps);
  store_->values_changed();
  step_ = saved_step_ = static_cast<std::int64_t>(state.step);
  position_ = {state.epoch, state.step_in_epoch};
  samples_seen_ = state.samples;
  tokens_seen_ = state.tokens;
  elapsed_seconds_ = static_cast<double>(state.elapsed_milliseconds) / 1000;
  loss_tokens_seen_ = state.loss_tokens;
  if (runtime_.is_main()) log_info("resuming from " + latest->string());
  return true;
}

std::int64_t Trainer::count_total_steps() {
  if (recipe_.train.max_steps > 0) return recipe_.train.max_steps;
  const double left = recipe_.train.epochs;
  std::int64_t total = 0;
  // From the last epoch to the first: the planner keeps the one it has packed last.
  for (auto epoch = static_cast<std::uint64_t>(std::ceil(left - 1e-9)); epoch-- > 0;) {
    const double share = std::min(1.0, left - static_cast<double>(epoch));
    total += static_cast<std::int64_t>(
        std::llround(share * static_cast<double>(planner_->steps_in(epoch))));
  }
  return std::max<std::int64_t>(total, 1);
}

TrainOutcome Trainer::run() {
  reset_peak_resident_bytes();  // of the stage before
  std::unique_ptr<FileLock> lock;
  if (runtime_.is_main()) {
    make_folders(run_folder_);
    lock = std::make_unique<FileLock>(run_folder_ / ".lock",
                                      "run folder '" + run_folder_.string() + "'");
  }
  runtime_.comm->barrier("run folder");
  make_planner();
  if (!resume()) start_weights();
  check_same_on_all_ranks(
      *runtime_.comm,
      concat("step ", step_, ", epoch ", position_.epoch, " step ", position_.step_in_epoch,
             ", weights ", weights_fingerprint(*store_)),
      "checkpoint or first weights");
  total_steps_ = count_total_steps();
  if (is_complete()) {
    if (runtime_.is_main()) {
      log_info("complete already: " + run_folder_.string());
      if (!std::filesystem::exists(run_folder_ / "hf")) export_weights();
    }
    runtime_.comm->barrier("complete run");
    return {true, 0};
  }
  if (plan_) {
    check_plan_fits(*plan_, recipe_.train.plan,
                    machine_memory_bytes(runtime_.device, runtime_.launch.local_world_size));
  }
  measure_peak();
  if (runtime_.is_main()) {
    std::filesystem::remove(run_folder_ / "summary.json");  // of a shorter run that goes on now
    write_recipe_and_plan();
    output_ = std::make_unique<Output>(
        Output{std::move(lock), MetricsWriter(run_folder_ / "metrics.jsonl", step_),
               Progress(step_, total_steps_, recipe_.log.every_steps)});
    const RunSummary summary = make_summary();
    log_info(to_text(summary));
    if (!summary.fit.fits()) log_warning(fit_warning(summary.fit));
    if (plan_) {
      const std::string warning = plan_warning(*plan_, recipe_);
      if (!warning.empty()) log_warning(warning);
    }
    output_->metrics.write(to_json(summary));
  }
  const TrainOutcome outcome = run_steps();
  if (outcome.signal != 0) {
    if (saved_step_ != step_) save();
    if (runtime_.is_main()) {
      log_warning(concat("stopped by signal ", outcome.signal, " after step ", step_,
                         "; run the same command again to go on"));
    }
    return outcome;
  }
  finish();
  return outcome;
}

bool Trainer::is_complete() const {
  const std::filesystem::path path = run_folder_ / "summary.json";
  if (step_ < total_steps_ || !std::filesystem::exists(path)) return false;
  return json_get<std::int64_t>(read_json(path), "steps", path.string()) == step_;
}

void Trainer::measure_peak() {
  const GemmPeak own = measure_gemm_peak(compute_dtype(recipe_.model.dtype), runtime_.device);
  const at::Tensor sum = at::tensor({own.flops_per_second}, at::kDouble).to(runtime_.device);
  runtime_.comm->all_reduce_sum(sum, "GEMM peak")->wait();
  peak_flops_ = sum.item<double>();
}

TrainOutcome Trainer::run_steps() {
  BatchStream stream(dataset_, processor_, *planner_, position_,
                     std::max<std::int64_t>(0, total_steps_ - step_), recipe_.data);
  StepRunner runner(recipe_, dataset_, model_, *store_, optimizer_, groups_, measurements_,
                    runtime_);
  while (step_ < total_steps_) {
    try {
      const int signal = run_step(stream, runner);
      if (signal != 0) return {false, signal};
      const bool evaluation_due =
          recipe_.evaluate.every_steps > 0 && step_ % recipe_.evaluate.every_steps == 0;
      if (evaluation_due && step_ < total_steps_) evaluate_now();
    } catch (const std::exception&) {
      save_after_error(runner);
      throw;
    }
  }
  return {true, 0};
}

int Trainer::run_step(BatchStream& stream, StepRunner& runner) {
  const auto start = std::chrono::steady_clock::now();
  const StepPlan plan = stream.next_plan();
  const double lr = recipe_.optimizer.lr * lr_factor(recipe_.optimizer, step_, total_steps_);
  StepResult result = runner.run(plan, stream, lr);
  ++step_;
  position_ = plan.next;
  const int signal = result.signal;
  finish_step(plan, std::move(result), lr, seconds_since(start));
  const bool save_due =
      recipe_.checkpoint.every_steps > 0 && step_ % recipe_.checkpoint.every_steps == 0;
  if (save_due) save();
  return signal;
}

void Trainer::save_after_error(const StepRunner& runner) {
  // Other ranks may be gone: nothing here may wait for them.
  if (!runtime_.is_main() || runner.is_updating() || step_ == 0 || saved_step_ == step_) return;
  output_->progress.break_line();
  try {
    write_checkpoint();
    log_warning(
        concat("saved step ", step_, " before leaving; the same command goes on from there"));
  } catch (const std::exception& error) {
    log_warning(concat("step ", step_, " could not be saved: ", error.what()));
  }
}

void Trainer::finish_step(const StepPlan& plan, StepResult result, double lr, double seconds) {
  elapsed_seconds_ += seconds;
  if (first_finished_) {
    ++timed_steps_;
    timed_seconds_ += seconds;
  }
  first_finished_ = true;
  WorkSize work;
  for (const RankLoad& load : plan.loads) {
    samples_seen_ += load.samples;
    tokens_seen_ += load.tokens;
    work = work + load.work;
  }
  loss_tokens_seen_ += plan.loss_tokens;
  bad_steps_in_a_row_ = result.skipped ? bad_steps_in_a_row_ + 1 : 0;
  if (result.skipped) {
    note_skipped(result);
    return;
  }
  if (!output_) return;
  StepRecord record;
  record.step = step_;
  record.position = plan.position;
  record.loss = result.loss;
  record.lr = lr;
  record.grad_norm = result.grad_norm;
  record.seconds = seconds;
  record.elapsed_seconds = elapsed_seconds_;
  record.flops = training_flops(model_.desc, work, frozen_blocks_);
  record.peak_flops = peak_flops_;
  record.times = std::move(result.times);
  record.loads = plan.loads;
  record.waste = plan.waste();
  output_->metrics.write(to_json(record));
  output_->progress.add(record);
}

void Trainer::note_skipped(const StepResult& result) {
  std::string names;
  for (const std::string& name : result.bad_samples) names += "\n  " + name;
  const std::string message =
      concat("step ", step_, " was skipped: loss ", result.loss, ", gradient norm ",
             result.grad_norm, ". Samples in question:", names);
  if (output_) {
    output_->progress.break_line();
    log_warning(message);
    output_->metrics.write({{"kind", "skipped"},
                            {"step", step_},
                            {"loss", std::to_string(result.loss)},
                            {"grad_norm", std::to_string(result.grad_norm)},
                            {"samples", result.bad_samples}});
  }
  GIMBAL_USER_CHECK(bad_steps_in_a_row_ < recipe_.train.max_bad_steps, bad_steps_in_a_row_,
                    " steps in a row had a loss or gradient that is not finite "
                    "(train.max_bad_steps). The last one: ",
                    message,
                    "\nLower optimizer.lr, set optimizer.clip_norm, or look at the samples named.");
}

void Trainer::write_checkpoint() {
  TrainingState state;
  state.step = static_cast<std::uint64_t>(step_);
  state.stage = recipe_.name;
  state.epoch = position_.epoch;
  state.step_in_epoch = position_.step_in_epoch;
  state.seed = static_cast<std::uint64_t>(recipe_.train.seed);
  state.optimizer_steps = optimizer_.step_count();
  state.samples = samples_seen_;
  state.tokens = tokens_seen_;
  state.elapsed_milliseconds = static_cast<std::uint64_t>(std::llround(1000 * elapsed_seconds_));
  state.loss_tokens = loss_tokens_seen_;
  state.dataset_fingerprint = dataset_.fingerprint();
  state.recipe_fingerprint = order_fingerprint();
  save_checkpoint(run_folder_, state, store_->shards(), optimizer_tensors(optimizer_));
}

void Trainer::save() {
  if (runtime_.is_main()) {
    write_checkpoint();
    prune_checkpoints(run_folder_, static_cast<std::size_t>(recipe_.checkpoint.keep_last),
                      static_cast<std::uint64_t>(step_));
  }
  saved_step_ = step_;
  runtime_.comm->barrier("checkpoint");
}

void Trainer::evaluate_now() {
  if (recipe_.data.eval.empty()) return;
  if (output_) output_->progress.break_line();
  const Dataset held_out(recipe_.data.eval);
  EvaluateOptions options = evaluate_options(recipe_);
  options.predictions = run_folder_ / "predictions.jsonl";
  const EvaluationResult result =
      evaluate(held_out, model_, *store_, compute_dtype(recipe_.model.dtype), runtime_, options);
  if (!output_) return;
  Json line = to_json(result, options);
  line["dataset"] = recipe_.data.eval;
  line["model"] = (run_folder_ / "hf").string();
  line["step"] = step_;
  write_file_atomic(run_folder_ / "eval.json", line.dump(2) + "\n");
  line["kind"] = "eval";
  output_->metrics.write(line);
  std::string text = concat("evaluation after step ", step_, ": loss ", result.loss);
  if (options.generate) {
    text += concat(", exact match ", 100.0 * result.exact_match(), "% of ",
                   format_count(result.answers), " answers");
  }
  log_info(text + " (" + format_duration(result.seconds) + ")");
}

void Trainer::export_weights() {
  if (!recipe_.checkpoint.export_hf) return;
  export_hf(model_, *store_, export_dtype(recipe_.model.dtype), recipe_.model.path,
            run_folder_ / "hf");
}

void Trainer::finish() {
  if (saved_step_ != step_) save();
  const PredictionReport prediction = compare_with_prediction();
  if (output_) {
    output_->progress.break_line();
    output_->metrics.write(to_json(prediction));
    log_info(to_text(prediction));
  }
  evaluate_now();
  if (runtime_.is_main()) {
    export_weights();
    const Json summary{{"finished", true},
                       {"steps", step_},
                       {"skipped_steps", step_ - optimizer_.step_count()},
                       {"samples", samples_seen_},
                       {"loss_tokens", loss_tokens_seen_},
                       {"train_seconds", elapsed_seconds_},
                       {"peak_resident_bytes", peak_resident_bytes()}};
    write_file_atomic(run_folder_ / "summary.json", summary.dump(2) + "\n");
    log_info("finished: " + run_folder_.string());
  }
  runtime_.comm->barrier("end of run");
}

}  // namespace gimbal
