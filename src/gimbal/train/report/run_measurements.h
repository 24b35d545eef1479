// What a rank measures while it trains, to hold against what was predicted: the peak of its
// activations and the time of its blocks.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "gimbal/arch/model_desc.h"
#include "gimbal/base/json.h"
#include "gimbal/profile/allocation_meter.h"
#include "gimbal/profile/memory.h"
#include "gimbal/train/report/block_clock.h"

namespace gimbal {

/// Sums over the timed micro-batches, or over several ranks.
struct MeasuredTimes {
  struct Class {
    double forward = 0;   // seconds, of all blocks of the class
    double backward = 0;  // recompute included
  };
  std::uint64_t micro_batches = 0;
  std::map<std::string, Class> classes;  // by cost class

  void add(const MeasuredTimes& other);
};

/// The largest of all micro-batches of a rank.
struct MeasuredPeak {
  double predicted_activations = 0;  // peak_activation_bytes
  double activations = 0;  // the peak less what was there before the step's first micro-batch
  double total = 0;        // all tensors: parameters, gradients, optimizer state too

  void add(const MeasuredPeak& other);
};

/// Calls in a step: begin_step, then per micro-batch begin_micro_batch, note (the tape's observer),
/// pause at the end of forward, end_micro_batch. In a pipeline, where micro-batches overlap, once
/// for all of them, with a pause whenever the rank stops working.
class RunMeasurements {
 public:
  /// To make before the tensors that count (AllocationMeter). The model must outlive it. `clock`:
  /// as steady_seconds.
  RunMeasurements(const ModelDesc& model, MemorySetting setting, const c10::Device& device,
                  std::function<double()> clock = steady_seconds);

  /// The first step counts only when no other does: it makes what the others find. On a GPU, where
  /// timing waits for the device at each block, one step in ten is timed.
  void begin_step();
  /// True while the observer has to be called.
  bool is_timing() const { return timing_; }
  /// With the batch's tensors made already.
  void begin_micro_batch();
  /// A block's time reaches from its begin to the next block's: opening, closing and summing of
  /// gradients count.
  void note(std::size_t block, bool backward, bool begin);
  void pause();
  /// `work`: of the micro-batch, or of the largest of `count`. One without samples counts for the
  /// peak only.
  void end_micro_batch(const WorkSize& work, std::uint64_t count = 1);

  /// Of all tensors made since the object was, now.
  std::int64_t current_bytes() const { return meter_.current_bytes(); }
  /// The least that was held between two steps: what is read ahead comes and goes.
  std::int64_t held_bytes() const { return held_bytes_; }
  const MeasuredTimes& times() const { return times_; }
  const MeasuredPeak& peak() const { return peak_; }

 private:
  const ModelDesc& model_;
  MemorySetting setting_;
  c10::Device device_;
  BlockClock block_clock_;
  AllocationMeter meter_;
  std::int64_t steps_ = 0;  // begun
  bool timing_ = false;
  bool step_has_begun_ = false;  // its first micro-batch
  std::int64_t bytes_before_ = 0;
  std::int64_t held_bytes_ = 0;
  std::vector<MeasuredTimes::Class> blocks_;  // of this micro-batch
  MeasuredTimes times_;
  MeasuredPeak peak_;
};

Json to_json(const MeasuredTimes& times);
Json to_json(const MeasuredPeak& peak);
/// What to_json wrote.
MeasuredTimes measured_times(const Json& json);
MeasuredPeak measured_peak(const Json& json);

}  // namespace gimbal
