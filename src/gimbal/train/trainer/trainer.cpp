#include "gimbal/train/trainer/trainer.h"

#include <ATen/ops/tensor.h>

#include <algorithm>
#include <chrono>
#include <future>

#include "gimbal/base/error.h"
#include "gimbal/base/file.h"
#include "gimbal/base/file_lock.h"
#include "gimbal/base/json.h"
#include "gimbal/base/log.h"
#include "gimbal/checkpoint/export_note.h"
#include "gimbal/checkpoint/sharded/agree.h"
#include "gimbal/checkpoint/sharded/publish.h"
#include "gimbal/config/load.h"
#include "gimbal/optim/lr_schedule.h"
#include "gimbal/profile/gemm_peak.h"
#include "gimbal/profile/machine.h"
#include "gimbal/train/evaluate.h"
#include "gimbal/train/export_run.h"
#include "gimbal/train/preflight.h"
#include "gimbal/train/report/run_output.h"
#include "gimbal/train/stop/stop_signal.h"
#include "gimbal/train/trainer/optimizer_tensors.h"

namespace gimbal {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Behind "the same command": it is refused where there are checkpoints and it may not go on.
const char* resume_words(const Recipe& recipe) {
  return recipe.train.resume ? "" : " with train.resume=true";
}

}  // namespace

Trainer::Trainer(Recipe recipe, std::optional<Plan> plan, std::filesystem::path run_folder,
                 std::optional<std::filesystem::path> previous_run, Runtime& runtime)
    : recipe_(std::move(recipe)),
      run_folder_(std::move(run_folder)),
      previous_run_(std::move(previous_run)),
      runtime_(runtime),
      plan_(std::move(plan)),
      dataset_(recipe_.data.train),
      processor_(dataset_.image_processor()),
      placement_(
          *runtime.groups,
          layout_for_training(recipe_, dataset_, model_for_training(recipe_), runtime.comm->size()),
          concat("mesh ", runtime.num_placements++)),
      communication_(placement_.mesh()),
      model_(model_for_training(recipe_, placement_.ports())),
      frozen_blocks_(frozen_blocks(model_)),
      measurements_(model_.desc, memory_setting(), runtime.device),
      groups_(recipe_.optimizer, model_.parameters()),
      store_(make_store()),
      optimizer_(store_->shards(),
                 AdamWOptions{recipe_.optimizer.beta1, recipe_.optimizer.beta2,
                              recipe_.optimizer.eps, recipe_.parallel.offload_optimizer}),
      rows_(sample_rows(dataset_)) {
  check_same_on_all_ranks(*runtime_.comm, to_yaml({StageRecipe{recipe_.name, recipe_}}), "recipe");
  check_same_on_all_ranks(*runtime_.comm, dataset_.fingerprint(), "dataset");
  // Now, and not after hours at the first evaluation.
  if (!recipe_.data.eval.empty())
    check_same_on_all_ranks(*runtime_.comm, Dataset(recipe_.data.eval).fingerprint(),
                            "evaluation dataset (data.eval)");
}

Trainer::~Trainer() = default;

TrainOutcome Trainer::run() {
  reset_peak_resident_bytes();  // of the stage before
  run_together(*runtime_.comm, "run folder", [this] {
    if (!runtime_.is_main()) return;
    make_folders(run_folder_);
    lock_ = std::make_unique<FileLock>(run_folder_ / ".lock",
                                       "run folder '" + run_folder_.string() + "'");
  });
  CheckpointRules rules;
  rules.keep_last = static_cast<std::size_t>(recipe_.checkpoint.keep_last);
  rules.keep_every = static_cast<std::uint64_t>(recipe_.checkpoint.keep_every);
  rules.background = recipe_.checkpoint.background;
  // A run that goes on drops the lines of later steps: those of earlier ones have to be there.
  rules.before_publishing = [folder = run_folder_] {
    for (const char* name : kRunLogs) {
      if (std::filesystem::exists(folder / name)) sync_file(folder / name);  // not moved away
    }
  };
  rules.after_publishing = [folder = run_folder_.string(),
                            resumes = recipe_.train.resume](std::uint64_t step) {
    note_restart(folder, static_cast<std::int64_t>(step), !resumes);
  };
  writer_ = std::make_unique<CheckpointWriter>(run_folder_, *runtime_.comm,
                                               placement_.layout().mesh, rules);
  const auto latest = find_latest_checkpoint(run_folder_, *runtime_.comm);
  make_planner(latest.has_value());
  if (!resume(latest)) start_weights();
  if (runtime_.is_main()) {
    // The stage before has checkpoints, which the same command meets first.
    const bool needs_resume = !recipe_.train.resume && previous_run_;
    note_restart(run_folder_.string(), step_, needs_resume);
  }
  check_same_weights();
  total_steps_ = count_total_steps();
  // As rank 0 sees it: a disk may show the others an older state.
  if (all_gather_bytes(*runtime_.comm, is_complete() ? "complete" : "", "complete run").front() !=
      "") {
    if (!runtime_.is_main()) return {true, 0};
    log_info("complete already: " + run_folder_.string());
    if (recipe_.checkpoint.export_hf && !std::filesystem::exists(run_folder_ / "hf"))
      start_export();
    return {true, 0};
  }
  if (plan_) {
    check_plan_fits(*plan_, recipe_.train.plan,
                    machine_memory_bytes(runtime_.device, runtime_.launch.local_world_size));
  }
  measure_peak();
  const std::vector<RankFacts> rank_facts = gather_rank_facts();
  const MemoryFit fit = find_fit();
  open_output();
  if (output_) report_start(rank_facts, fit);
  TrainOutcome outcome = run_steps();
  const bool all_steps_done = outcome.signal == 0;
  if (all_steps_done) outcome.signal = finish();
  if (outcome.signal == 0) return outcome;
  outcome.finished = false;
  if (saved_step_ != step_) save();
  writer_->finish();
  if (!all_steps_done) report_communication();
  if (runtime_.is_main()) {
    log_warning(concat("stopped by ", signal_name(outcome.signal), " after step ", step_,
                       "; run the same command again", resume_words(recipe_), " to go on"));
  }
  return outcome;
}

void Trainer::open_output() {
  run_slow_together(*runtime_.comm, "logs of the run", [this] {
    if (!runtime_.is_main()) return;
    std::filesystem::remove(run_folder_ / "summary.json");  // of a shorter run that goes on now
    write_recipe_and_plan();
    output_ = std::make_unique<RunOutput>(
        RunOutput{MetricsWriter(run_folder_ / kMetricsLog, step_),
                  MetricsWriter(run_folder_ / kSamplesLog, step_),
                  Progress(step_, total_steps_, recipe_.log.every_steps)});
  });
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
                     std::max<std::int64_t>(0, total_steps_ - step_), recipe_.data,
                     placement_.tiles_read(model_), runtime_.device);
  StepRunner runner(recipe_, dataset_, model_, placement_, *store_, optimizer_, groups_,
                    measurements_, runtime_);
  while (step_ < total_steps_) {
    try {
      const int signal = run_step(stream, runner);
      if (signal != 0) return {false, signal};
      const bool evaluation_due =
          recipe_.evaluate.every_steps > 0 && step_ % recipe_.evaluate.every_steps == 0;
      if (evaluation_due && step_ < total_steps_) {
        const int stop = evaluate_now();
        if (stop != 0) return {false, stop};
      }
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
  // Before the step: no step whose line cannot be written is ever counted or saved.
  if (output_) output_->samples.write(samples_line(step_ + 1, plan));
  communication_.begin_step();
  StepResult result = runner.run(plan, stream, lr, writer_->failed());
  communication_.end_step();
  ++step_;
  position_ = plan.next;
  const int signal = result.signal;
  const bool save_failed = result.save_failed;
  finish_step(plan, std::move(result), lr, seconds_since(start));
  // Not after hours at the next save: this throws what has failed, on all ranks.
  if (save_failed) writer_->finish();
  const bool save_due =
      recipe_.checkpoint.every_steps > 0 && step_ % recipe_.checkpoint.every_steps == 0;
  if (save_due) save();
  return signal;
}

void Trainer::save_after_error(const StepRunner& runner) {
  // Other ranks may be gone: nothing here may wait for them.
  if (!runtime_.is_main() || runner.is_updating() || step_ == 0 || resumed_step_ == step_) return;
  if (writer_->saved_step() == static_cast<std::uint64_t>(step_)) return;
  if (!writer_->can_save_alone(store_->shards())) return;
  output_->progress.break_line();
  try {
    writer_->save_alone(training_state(), store_->shards(), optimizer_tensors(optimizer_));
    log_warning(concat("saved step ", step_, " before leaving; the same command",
                       resume_words(recipe_), " goes on from there"));
  } catch (const std::exception& error) {
    log_warning(concat("step ", step_, " could not be saved: ", error.what()));
  }
}

void Trainer::save() {
  writer_->save(training_state(), store_->shards(), optimizer_tensors(optimizer_));
  saved_step_ = step_;
}

int Trainer::agreed_signal() {
  const at::Tensor own = at::tensor({stop_signal()}, at::kLong).to(runtime_.device);
  const at::Tensor all = runtime_.comm->all_gather(own, "stop signals").to(at::kCPU);
  return static_cast<int>(all.max().item<std::int64_t>());
}

int Trainer::evaluate_now() {
  if (recipe_.data.eval.empty()) return 0;
  if (output_) output_->progress.break_line();
  const Dataset held_out(recipe_.data.eval);
  EvaluateOptions options = evaluate_options(recipe_);
  options.predictions = run_folder_ / "predictions.jsonl";
  const EvaluationResult result =
      evaluate(held_out, model_, *store_, compute_dtype(recipe_.model.dtype), runtime_, options,
               &placement_);
  if (result.interrupted) return agreed_signal();
  if (!output_) return 0;
  Json line = to_json(result, options);
  line["dataset"] = recipe_.data.eval;
  line["model"] = choose_export_folder(run_folder_ / "hf", total_steps_).folder.string();
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
  return 0;
}

int Trainer::finish() {
  if (saved_step_ != step_) save();
  writer_->finish();
  const PredictionReport prediction = compare_with_prediction();
  if (output_) {
    output_->progress.break_line();
    output_->metrics.write(to_json(prediction));
    log_info(to_text(prediction));
  }
  report_communication();
  const int signal = evaluate_now();
  if (signal == 0 && runtime_.is_main()) start_export();
  return signal;
}

void Trainer::start_export() {
  const Json summary{{"finished", true},
                     {"steps", step_},
                     {"skipped_steps", step_ - optimizer_.step_count()},
                     {"samples", samples_seen_},
                     {"loss_tokens", loss_tokens_seen_},
                     {"train_seconds", elapsed_seconds_},
                     {"peak_resident_bytes", peak_resident_bytes()}};
  const auto export_and_finish =
      [recipe = recipe_, folder = run_folder_, summary, steps = step_,
       checkpoint = checkpoint_path(run_folder_, static_cast<std::uint64_t>(step_)),
       lock = std::shared_ptr<FileLock>(std::move(lock_))] {
        if (recipe.checkpoint.export_hf) {
          const ExportTarget target = choose_export_folder(folder / "hf", steps);
          export_checkpoint(checkpoint, make_model_of_folder(recipe.model.path),
                            export_dtype(recipe.model.dtype), recipe.model.path, target.folder);
          if (target.earlier)
            log_info(replaced_export_text(target.folder, steps, target.earlier->step));
          if (!target.obstacle.empty()) {
            log_warning(concat(target.obstacle, "; it is left alone, and the export of step ",
                               steps, " is in '", target.folder.string(), "'"));
          }
        }
        write_file_atomic(folder / "summary.json", summary.dump(2) + "\n");
        log_info("finished: " + folder.string());
      };
  runtime_.exports.push_back(std::async(std::launch::async, export_and_finish));
}

}  // namespace gimbal
