// One stage of a run: from a recipe to trained weights in a run folder.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>

#include "gimbal/base/file_lock.h"
#include "gimbal/checkpoint/checkpoint_writer.h"
#include "gimbal/config/recipe.h"
#include "gimbal/optim/adamw.h"
#include "gimbal/plan/plan.h"
#include "gimbal/train/build.h"
#include "gimbal/train/layout/placement.h"
#include "gimbal/train/report/communication.h"
#include "gimbal/train/report/memory_fit.h"
#include "gimbal/train/report/prediction.h"
#include "gimbal/train/report/run_output.h"
#include "gimbal/train/report/summary.h"
#include "gimbal/train/trainer/step.h"

namespace gimbal {

struct TrainOutcome {
  bool finished = false;
  int signal = 0;  // the stop signal that ended the run early
};

class Trainer {
 public:
  /// `plan`: the one of train.plan, worked into the recipe. `run_folder`: where this stage writes.
  /// `previous_run`: run folder of the stage before, whose last checkpoint gives the first weights.
  Trainer(Recipe recipe, std::optional<Plan> plan, std::filesystem::path run_folder,
          std::optional<std::filesystem::path> previous_run, Runtime& runtime);
  ~Trainer();

  /// Collective. Resumes from the newest complete checkpoint of the run folder when there is one.
  TrainOutcome run();

 private:
  void make_planner(bool has_checkpoint);
  void start_weights();
  bool resume(const std::optional<std::filesystem::path>& latest);
  std::int64_t count_total_steps();
  MemorySetting memory_setting() const;
  std::unique_ptr<ParameterStore> make_store();
  /// Throws UserError when ranks that hold the same parameters have other values of them.
  /// Collective.
  void check_same_weights();
  /// Collective. Of the rank with least room.
  MemoryFit find_fit();
  RunSummary make_summary();
  /// Collective.
  std::vector<RankFacts> gather_rank_facts();
  void write_recipe_and_plan() const;
  /// Collective. The files that this rank writes while it trains. The logs end with step_ then.
  void open_output();
  /// With output: what the run is like, before its first step.
  void report_start(const std::vector<RankFacts>& rank_facts, const MemoryFit& fit);
  /// True when the run folder holds the end of exactly this many steps.
  bool is_complete() const;
  void measure_peak();
  /// Collective. What was predicted beside what all ranks have measured.
  PredictionReport compare_with_prediction();
  /// Collective. Writes and shows what all ranks have communicated in this process' steps.
  void report_communication();
  TrainOutcome run_steps();
  /// Returns the stop signal that any rank has received, or 0.
  int run_step(BatchStream& stream, StepRunner& runner);
  void finish_step(const StepPlan& plan, StepResult result, double lr, double seconds);
  void note_skipped(const StepResult& result);
  TrainingState training_state() const;
  /// Collective.
  void save();
  /// Keeps the finished steps when a step fails, on rank 0 and without the other ranks.
  void save_after_error(const StepRunner& runner);
  /// Collective. The stop signal that any rank has received.
  int agreed_signal();
  /// Collective. Returns the stop signal that has ended the evaluation early, or 0.
  int evaluate_now();
  /// Collective. The same for the evaluation at the end.
  int finish();
  /// On rank 0, beside the next stage: nobody waits for a large model to be written.
  void start_export();
  /// Equal for equal orders of samples.
  std::string order_fingerprint() const;

  Recipe recipe_;
  std::filesystem::path run_folder_;
  std::optional<std::filesystem::path> previous_run_;
  Runtime& runtime_;

  std::optional<Plan> plan_;  // that the recipe follows
  Dataset dataset_;
  ImageProcessor processor_;
  Placement placement_;
  StepCommunication communication_;
  Model model_;  // this rank's parts
  std::vector<bool> frozen_blocks_;
  RunMeasurements measurements_;  // before the tensors that it counts
  ParameterGroups groups_;
  std::unique_ptr<ParameterStore> store_;
  AdamW optimizer_;
  std::vector<std::uint32_t> rows_;
  std::unique_ptr<StepPlanner> planner_;  // once the run folder is known to be ours

  std::int64_t step_ = 0;  // finished steps
  std::int64_t total_steps_ = 0;
  std::int64_t bad_steps_in_a_row_ = 0;
  Position position_;  // of the next step
  std::uint64_t samples_seen_ = 0;
  std::uint64_t tokens_seen_ = 0;
  std::uint64_t loss_tokens_seen_ = 0;
  double elapsed_seconds_ = 0;
  double peak_flops_ = 0;
  std::int64_t timed_steps_ = 0;  // of this process, the first left out
  double timed_seconds_ = 0;
  bool first_finished_ = false;
  std::int64_t saved_step_ = -1;    // whose checkpoint is there or under way
  std::int64_t resumed_step_ = -1;  // that this process has begun with

  std::unique_ptr<CheckpointWriter> writer_;
  std::unique_ptr<FileLock> lock_;     // of the run folder, on rank 0
  std::unique_ptr<RunOutput> output_;  // on rank 0
};

/// Runs the stages one after another, with their plans worked in, skipping those that are complete.
TrainOutcome run_stages(std::vector<StageRecipe> stages, Runtime& runtime);

}  // namespace gimbal
