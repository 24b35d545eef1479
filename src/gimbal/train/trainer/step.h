// One optimizer update: micro-batches forward and backward, reduction, clipping, AdamW.
#pragma once

#include <string>
#include <vector>

#include "gimbal/config/recipe.h"
#include "gimbal/optim/adamw.h"
#include "gimbal/train/build.h"
#include "gimbal/train/data/batch_stream.h"
#include "gimbal/train/layout/placement.h"
#include "gimbal/train/report/metrics.h"
#include "gimbal/train/report/run_measurements.h"
#include "gimbal/train/tape/pipeline_stages.h"
#include "gimbal/train/trainer/parameter_groups.h"

namespace gimbal {

struct StepResult {
  double loss = 0;                       // mean over the loss tokens of the step, all ranks
  double grad_norm = 0;                  // before clipping
  bool skipped = false;                  // loss or norm was not finite: nothing was updated
  int signal = 0;                        // a stop signal that any rank has received
  bool save_failed = false;              // the last save of any rank
  std::vector<std::string> bad_samples;  // when skipped: the samples of the micro-batches whose
                                         // loss was not finite, or all of the step's
  std::vector<StepTimes> times;          // per rank
};

class StepRunner {
 public:
  /// The references must outlive the runner.
  StepRunner(const Recipe& recipe, const Dataset& dataset, const Model& model,
             const Placement& placement, ParameterStore& store, AdamW& optimizer,
             const ParameterGroups& groups, RunMeasurements& measurements, Runtime& runtime);

  /// Collective. `lr`: base learning rate of this step. `save_failed`: told to all ranks. Throws
  /// UserError that names the samples when memory does not suffice.
  StepResult run(const StepPlan& plan, BatchStream& stream, double lr, bool save_failed);
  /// True while weights and optimizer state belong to no step: an error then leaves nothing to
  /// save.
  bool is_updating() const { return updating_; }

 private:
  /// What this rank saw in its micro-batches.
  struct LocalResult {
    double loss_sum = 0;
    std::vector<std::uint32_t> bad_samples;
    StepTimes times;
  };

  LocalResult run_micro_batches(const StepPlan& plan, BatchStream& stream);
  /// Runs the schedule; fills in the times.
  void run_actions(const StepPlan& plan, const Schedule& schedule, StepTimes& times);
  void sum_losses(const StepPlan& plan, LocalResult& local) const;
  /// Loss of the step and the ranks' times and signals: one small all-gather.
  void exchange(const StepPlan& plan, const LocalResult& local, bool save_failed,
                StepResult& result);
  void name_bad_samples(const StepPlan& plan, const LocalResult& local, StepResult& result);

  const Recipe& recipe_;
  const Dataset& dataset_;
  const Placement& placement_;
  ParameterStore& store_;
  AdamW& optimizer_;
  const ParameterGroups& groups_;
  RunMeasurements& measurements_;
  Runtime& runtime_;
  TapeStages stages_;
  bool updating_ = false;
};

}  // namespace gimbal
