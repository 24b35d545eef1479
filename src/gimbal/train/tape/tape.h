// The tape: forward runs block by block on detached inputs; backward is an explicit loop over the
// tape in reverse. One tape records a range of blocks (a pipeline stage) for any number of
// micro-batches at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "gimbal/config/recipe.h"
#include "gimbal/models/model.h"
#include "gimbal/parallel/store.h"

namespace gimbal {

/// Called around each block's work, while its parameters are open, for timing and tracing: (block,
/// backward?, begin?). Backward includes the recomputation, and weight gradients that were put off
/// (reported on their own); blocks without backward are not reported.
using TapeObserver = std::function<void(std::size_t block, bool backward, bool begin)>;
/// Called within a block's backward when parts of it begin and end to run again.
using RecomputeObserver = std::function<void(std::size_t block, bool begin)>;

/// Blocks [begin, end) of a model.
struct BlockRange {
  std::size_t begin = 0, end = 0;
  bool operator==(const BlockRange&) const = default;
};

/// The first block with a trainable parameter (owned or borrowed); their number when there is none.
/// Gradients flow back to here.
std::size_t first_trained_block(const Model& model);

/// What is kept for the backward pass of a block, by its level: keep: its graph; attention, mlp:
/// the graph of one part, and of the other only the input, from which it is run again; full: the
/// block's input. Blocks of one part have attention and mlp as full. Gradients do not depend on the
/// level.
///
/// Blocks before first_trained_block are not recorded: they run without a graph and have no
/// backward. Whether a block is recorded, opened, closed and finished never depends on the data.
class Tape {
 public:
  /// Of all blocks. `levels` has an entry per block of the model. The references must outlive the
  /// tape. Parameters must not become trainable or frozen afterwards.
  Tape(const Model& model, ParameterStore& store, std::vector<Recompute> levels);
  /// Of a pipeline stage. `split_backward`: products can put their weight gradients off.
  Tape(const Model& model, ParameterStore& store, std::vector<Recompute> levels, BlockRange range,
       bool split_backward = false);
  ~Tape();

  /// Runs the stage's blocks on `in` and records them as `micro_batch`. Returns detached outputs.
  /// The batch of `context` must live until the micro-batch's backward (or backward_input) is done.
  Flow forward(int micro_batch, const PassContext& context, Flow in);
  /// Backward through what was recorded: takes the gradients of the outputs, adds the parameters'
  /// to the store and returns those of the inputs (undefined where nothing needs them). `last`: no
  /// further micro-batch of the step comes. Frees the recording as it goes.
  Flow backward(int micro_batch, Flow gradients, bool last);
  /// The halves of backward for zero-bubble schedules, on a tape of split_backward: the first
  /// computes the gradients of inputs, and of parameters whose products put nothing off (norms,
  /// biases and embeddings; also the head, and key and value projections that are replicated over
  /// tensor-parallel ranks), and frees all that the others do not need; the second computes the
  /// gradients of these, without gathering parameters.
  Flow backward_input(int micro_batch, Flow gradients);
  void backward_weight(int micro_batch, bool last);

  // One micro-batch at a time through the whole model, with the loss.
  /// Drops an earlier recording. Returns the loss sum (detached, 0-dim).
  at::Tensor forward(const PassContext& context);
  /// Seeded with d(total) / d(loss sum) = `seed`.
  void backward(double seed, bool last);

  /// Whether gradients flow through the input of the range: a block before it is trained.
  bool input_needs_gradient() const { return first_recorded_ < range_.begin; }
  /// Micro-batches whose backward is not done.
  std::size_t num_recordings() const { return recordings_.size(); }
  /// Forgets all recordings, after an error.
  void clear();
  void set_observer(TapeObserver observer) { observer_ = std::move(observer); }
  void set_recompute_observer(RecomputeObserver observer) {
    recompute_observer_ = std::move(observer);
  }

 private:
  struct Recording;  // of a micro-batch
  class ObservedBlock;

  std::unique_ptr<Recording> take_recording(int micro_batch);
  /// Opens the block and announces the next one.
  Flow run_block(Recording& recording, std::size_t block, Flow flow);
  Flow backward_block(Recording& recording, std::size_t block, Flow gradients, bool with_weights);

  const Model& model_;
  ParameterStore& store_;
  std::vector<Recompute> levels_;
  BlockRange range_;
  bool split_backward_ = false;
  std::size_t first_recorded_ = 0;  // block; the number of blocks when all are frozen
  std::map<int, std::unique_ptr<Recording>> recordings_;
  TapeObserver observer_;
  RecomputeObserver recompute_observer_;
};

/// Forward without recording, of the whole model: evaluation and generation.
Flow run_forward(const Model& model, ParameterStore& store, const PassContext& context);
/// Of a stage.
Flow run_forward(const Model& model, ParameterStore& store, const PassContext& context,
                 BlockRange range, Flow in);

}  // namespace gimbal
