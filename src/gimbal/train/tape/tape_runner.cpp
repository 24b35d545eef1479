#include "gimbal/train/tape/tape_runner.h"

#include <algorithm>
#include <ctime>

#include "gimbal/base/error.h"
#include "gimbal/profile/allocation_meter.h"
#include "gimbal/train/report/block_clock.h"
#include "gimbal/train/tape/block_levels.h"

namespace gimbal {
namespace {

double seconds_of(PassClock clock) {
  if (clock == PassClock::kWall) return steady_seconds();
  timespec time{};
  GIMBAL_CHECK(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time) == 0, "clock_gettime");
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

}  // namespace

/// What the tape's observer sees of one pass.
class TapeRunner::Observation {
 public:
  Observation(std::size_t num_blocks, const c10::Device& device, PassClock clock)
      : block_clock_(device, [clock] { return seconds_of(clock); }),
        meter_(device),
        passes_(num_blocks),
        after_forward_(num_blocks) {
    start_ = meter_.current_bytes();
    meter_.reset_peak();
  }

  void note(std::size_t block, bool backward, bool begin) {
    if (begin) {
      switch_to(backward ? &passes_[block].backward_seconds : &passes_[block].forward_seconds);
      keep_peak();
      before_ = meter_.current_bytes();
      return;
    }
    BlockPass& pass = passes_[block];
    const std::int64_t peak = keep_peak();
    if (backward) {
      pass.backward_peak_bytes = difference(peak, after_forward_[block]);
    } else {
      after_forward_[block] = meter_.current_bytes();
      pass.saved_bytes = difference(after_forward_[block], before_);
      pass.forward_peak_bytes = difference(peak, after_forward_[block]);
    }
  }

  void note_recompute(std::size_t block, bool begin) {
    BlockPass& pass = passes_[block];
    switch_to(begin ? &pass.recompute_seconds : &pass.backward_seconds);
  }

  /// Null: time that nobody counts.
  void switch_to(double* figure) { block_clock_.switch_to(figure); }

  std::vector<BlockPass>& passes() { return passes_; }
  double peak_bytes() const { return difference(peak_, start_); }

 private:
  static double difference(std::int64_t a, std::int64_t b) {
    return static_cast<double>(std::max<std::int64_t>(0, a - b));
  }
  /// The peak since the last call; the meter starts again.
  std::int64_t keep_peak() {
    const std::int64_t peak = meter_.peak_bytes();
    peak_ = std::max(peak_, peak);
    meter_.reset_peak();
    return peak;
  }

  BlockClock block_clock_;
  AllocationMeter meter_;
  std::vector<BlockPass> passes_;
  std::vector<std::int64_t> after_forward_;
  std::int64_t start_ = 0, before_ = 0, peak_ = 0;
};

TapeRunner::TapeRunner(const Model& model, ParameterStore& store, const Model* input_model,
                       ParameterStore* input_store, const c10::Device& device,
                       std::int64_t loss_chunk_rows, PassClock clock)
    : store_(store),
      input_store_(input_store),
      num_blocks_(model.blocks.size()),
      device_(device),
      loss_chunk_rows_(loss_chunk_rows),
      clock_(clock) {
  for (std::size_t level = 0; level < kNumRecomputeLevels; ++level) {
    std::vector<Recompute> levels;
    for (const BlockDesc& block : model.desc.blocks)
      levels.push_back(level_of_block(block, static_cast<Recompute>(level)));
    tapes_[level] = std::make_unique<Tape>(model, store, std::move(levels));
  }
  if (input_model != nullptr) {
    tapes_[static_cast<std::size_t>(PassMode::kInputGradients)] = std::make_unique<Tape>(
        *input_model, *input_store, std::vector<Recompute>(num_blocks_, Recompute::kKeep));
  }
}

TapeRunner::~TapeRunner() = default;

Tape& TapeRunner::tape_of(PassMode mode) {
  const auto& tape = tapes_[static_cast<std::size_t>(mode)];
  GIMBAL_CHECK(tape != nullptr, "no model for this mode");
  return *tape;
}

std::vector<BlockPass> TapeRunner::run(const Batch& batch, PassMode mode) {
  Tape& tape = tape_of(mode);
  (mode == PassMode::kInputGradients ? *input_store_ : store_).begin_step();
  Observation observation(num_blocks_, device_, clock_);
  tape.set_observer([&](std::size_t block, bool backward, bool begin) {
    observation.note(block, backward, begin);
  });
  tape.set_recompute_observer(
      [&](std::size_t block, bool begin) { observation.note_recompute(block, begin); });
  const PassContext context{batch, PassKind::kLoss, nullptr, loss_chunk_rows_};
  tape.forward(context);
  observation.switch_to(nullptr);
  const auto num_targets = static_cast<double>(batch.loss_rows_Q.numel());
  tape.backward(1.0 / std::max(1.0, num_targets), /*last=*/false);
  observation.switch_to(nullptr);
  tape.set_observer(nullptr);
  tape.set_recompute_observer(nullptr);
  peak_bytes_ = observation.peak_bytes();
  return std::move(observation.passes());
}

}  // namespace gimbal
