// The stages of one pipeline rank: a tape for each, run by a schedule.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "gimbal/parallel/pipeline.h"
#include "gimbal/train/tape/tape.h"

namespace gimbal {

struct TapeStagesSetup {
  std::vector<BlockRange> stages;  // of the whole pipeline, in the order of the model
  int rank = 0;                    // in the pipeline: has the stages s with s % num_ranks == rank
  int num_ranks = 1;
  std::vector<Recompute> levels;        // per block of the model
  bool split_backward = false;          // the schedules have weight gradients of their own
  at::ScalarType compute = at::kFloat;  // dtype of what stages hand over
  std::int64_t loss_chunk_rows = 1024;
};

/// Use: begin(..), run_schedule(schedule, groups, stages), then losses(). With one rank and one
/// stage this is the whole model.
class TapeStages : public StageRunner {
 public:
  /// The references must outlive the stages; the tape's rules hold.
  TapeStages(const Model& model, ParameterStore& store, TapeStagesSetup setup);
  ~TapeStages() override;

  /// The batch of the next micro-batch, on the device: called for 0, 1, .. in order, each when an
  /// action for it or the receive of its input comes next.
  using NextBatch = std::function<Batch()>;
  /// Before a step. `seed`: d(total) / d(loss sum). The schedule is used here alone. Drops what an
  /// earlier step has left after an error.
  void begin(const Schedule& schedule, NextBatch next_batch, double seed);

  /// Fetches the batch of a micro-batch now, before the action that needs it.
  void prepare(int micro_batch) { fetched(micro_batch); }

  /// Loss sum of each micro-batch (detached, 0-dim, on the device); undefined on ranks without the
  /// last stage.
  std::vector<at::Tensor> losses() const;
  /// For error messages: the batch of the action that runs or has thrown; null when it has no use
  /// for one any more.
  const Batch* running_batch() const;
  /// The tape of one of this rank's stages.
  const Tape& tape(int stage) const;
  void set_observer(const TapeObserver& observer);

  Flow forward(int stage, int micro_batch, Flow in) override;
  Flow backward(int stage, int micro_batch, Flow gradients) override;
  Flow backward_input(int stage, int micro_batch, Flow gradients) override;
  void backward_weight(int stage, int micro_batch) override;
  StageBoundary boundary(int stage, int micro_batch) const override;

 private:
  struct MicroBatch {
    std::optional<Batch> batch;         // from its first use to its last
    std::vector<FlowShape> boundaries;  // after each stage
    int uses_left = 0;                  // actions of this rank that read the batch
    at::Tensor loss;
  };

  MicroBatch& fetched(int micro_batch) const;
  std::vector<FlowShape> boundaries_of(const Batch& batch) const;
  PassContext start(int micro_batch);
  void end(int micro_batch);
  Flow with_seed(int stage, int micro_batch, Flow gradients) const;
  std::size_t local_index(int stage) const;
  bool is_last(int stage, int micro_batch) const;

  const Model& model_;
  TapeStagesSetup setup_;
  std::size_t first_trained_;
  std::vector<std::unique_ptr<Tape>> tapes_;  // of this rank's stages, ascending
  // Of the step.
  NextBatch next_batch_;
  double seed_ = 0;
  int running_ = -1;                               // micro-batch
  std::vector<int> last_micro_batches_;            // per stage of this rank
  mutable std::vector<MicroBatch> micro_batches_;  // filled as they are asked for
  mutable std::size_t num_fetched_ = 0;
};

}  // namespace gimbal
