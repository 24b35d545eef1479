// Passes through the tape with the time and the bytes of each block.
#pragma once

#include <c10/core/Device.h>

#include <array>
#include <memory>
#include <vector>

#include "gimbal/profile/measure_blocks.h"
#include "gimbal/train/tape/tape.h"

namespace gimbal {

/// What counts as time: what passes on the wall, or what this process computes (of all its
/// threads). The latter is for one thread on a machine that others use, too.
enum class PassClock { kWall, kProcessor };

/// A block's time reaches from its begin to the next block's: opening, closing and the summing of
/// gradients count. Synchronises the device at each block. Nothing is reduced or updated.
class TapeRunner : public PassRunner {
 public:
  /// Passes of `model` at the recompute levels. `input_model`: the same model with only the first
  /// block trainable, for PassMode::kInputGradients; null when that mode is not used. The
  /// references must outlive the runner.
  TapeRunner(const Model& model, ParameterStore& store, const Model* input_model,
             ParameterStore* input_store, const c10::Device& device, std::int64_t loss_chunk_rows,
             PassClock clock = PassClock::kWall);
  ~TapeRunner() override;

  std::vector<BlockPass> run(const Batch& batch, PassMode mode) override;
  /// Of the last pass: the most bytes alive above those before it.
  double peak_bytes() const { return peak_bytes_; }

 private:
  class Observation;

  Tape& tape_of(PassMode mode);

  std::array<std::unique_ptr<Tape>, kNumPassModes> tapes_;
  ParameterStore& store_;
  ParameterStore* input_store_;
  std::size_t num_blocks_;
  c10::Device device_;
  std::int64_t loss_chunk_rows_;
  PassClock clock_;
  double peak_bytes_ = 0;
};

}  // namespace gimbal
