// What the trainer says of each step, and at the end of what the ranks have said to each other.
#include "gimbal/base/error.h"
#include "gimbal/base/json.h"
#include "gimbal/base/log.h"
#include "gimbal/train/report/run_output.h"
#include "gimbal/train/trainer/trainer.h"

namespace gimbal {

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
  record.data_ranks = placement_.data_ranks();
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

void Trainer::report_communication() {
  if (runtime_.comm->size() == 1 || communication_.num_steps() == 0) return;
  CommunicationReport report{step_, communication_.num_steps(), {}};
  const std::string own = to_json(communication_.totals()).dump();
  for (const std::string& text : all_gather_bytes(*runtime_.comm, own, "communication"))
    report.ranks.push_back(comm_totals_from(Json::parse(text)));
  if (!output_) return;
  output_->progress.break_line();
  output_->metrics.write(to_json(report));
  log_info(to_text(report));
}

}  // namespace gimbal
