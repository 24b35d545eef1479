// The tape: forward runs block by block on detached inputs; backward is an explicit loop over the
// tape in reverse.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "gimbal/config/recipe.h"
#include "gimbal/models/model.h"
#include "gimbal/parallel/store.h"

namespace gimbal {

/// Called around each block's work, while its parameters are open, for timing and tracing: (block,
/// backward?, begin?). Backward includes the recomputation; blocks without backward are not
/// reported.
using TapeObserver = std::function<void(std::size_t block, bool backward, bool begin)>;

/// What is kept for the backward pass of a block, by its level: keep: its graph; attention, mlp:
/// the graph of one part, and of the other only the input, from which it is run again; full: the
/// block's input. Blocks of one part have attention and mlp as full. Gradients do not depend on the
/// level.
///
/// Blocks before the first one with a trainable parameter (owned or borrowed) are not recorded:
/// they run without a graph and have no backward. Whether a block is recorded, opened, closed and
/// finished never depends on the data.
class Tape {
 public:
  /// `levels` has an entry per block. The references must outlive the tape. Parameters must not
  /// become trainable or frozen afterwards.
  Tape(const Model& model, ParameterStore& store, std::vector<Recompute> levels);
  ~Tape();

  /// Runs all blocks and records them, dropping an earlier recording. Returns the loss sum
  /// (detached, 0-dim). The batch of `context` must live until backward.
  at::Tensor forward(const PassContext& context);
  /// Backward through what was recorded, seeded with d(total) / d(loss sum) = `seed`; gradients go
  /// to the store. `last`: last micro-batch of the step. Frees the recording as it goes; call it
  /// once per forward.
  void backward(double seed, bool last);

  void set_observer(TapeObserver observer) { observer_ = std::move(observer); }

 private:
  struct Segment;
  using Record = std::vector<Segment>;  // of a block
  Flow run_block(std::size_t block, Flow flow);
  Flow run_segment(std::size_t block, Segment& segment, Flow flow);
  /// Turns the gradients of the segment's outputs into those of its inputs.
  Flow backward_segment(std::size_t block, Segment segment, Flow gradients);
  void observe(std::size_t block, bool backward, bool begin) const;

  const Model& model_;
  ParameterStore& store_;
  std::vector<Recompute> levels_;
  std::size_t first_recorded_ = 0;      // block; the number of blocks when all are frozen
  std::vector<Record> records_;         // of blocks first_recorded_, first_recorded_ + 1, ...
  std::optional<PassContext> context_;  // of the recording
  at::Tensor loss_;
  TapeObserver observer_;
};

/// Forward without recording: evaluation and generation.
Flow run_forward(const Model& model, ParameterStore& store, const PassContext& context);

}  // namespace gimbal
