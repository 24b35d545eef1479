// The engine of the pipeline simulation: takes its memory once and runs one schedule many times.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "gimbal/sim/pipeline.h"

namespace gimbal {

/// What a run needs per [stage * num_micro_batches + micro_batch].
struct PipelineCosts {
  std::span<const StageWork> work;
  /// Seconds of the message that goes from the stage to the next, and of the gradient that comes
  /// back; those of the last stage are not read.
  std::span<const Seconds> messages;
  std::span<const Seconds> earliest_start;  // [num_stages], or empty
};

class PipelineRun {
 public:
  /// Of one rank, after a run.
  struct RankTotals {
    Seconds end = 0;  // of its last action
    Seconds busy = 0;
    Seconds send_wait = 0;
    Bytes peak = 0;  // without static bytes
    std::size_t peak_action = 0;
  };
  struct Interval {
    Seconds start = 0;
    Seconds end = 0;
  };

  /// The schedule must outlive the object.
  explicit PipelineRun(const Schedule& schedule, bool overlap_sends = true);

  /// Runs the schedule; `tables`, when given, gets the times of each action, per rank.
  void run(const PipelineCosts& costs, std::vector<std::vector<ActionTimes>>* tables = nullptr);

  const std::vector<RankTotals>& ranks() const { return totals_; }
  /// Per stage: its last kBackward or kBackwardWeight, after which its gradients are complete.
  const std::vector<Interval>& last_backward() const { return last_backward_; }
  Seconds seconds() const;
  Seconds mean_busy() const;

 private:
  struct RankState {
    std::size_t position = 0;  // of the next action
    Seconds free = 0;
    Bytes held = 0;
    std::int64_t waiting_for = -1;          // index into arrival_
    std::array<Seconds, 2> link_free = {};  // to the next rank, to the rank before
  };

  void reset();
  void advance(int rank, const PipelineCosts& costs, std::vector<std::vector<ActionTimes>>* tables);
  void send(int rank, int stage_to, std::size_t message, bool forward, Seconds end,
            const PipelineCosts& costs);

  const Schedule& schedule_;
  bool overlap_sends_;
  std::size_t num_cells_;         // stages * micro-batches
  std::vector<Seconds> arrival_;  // [2 * num_cells_]: inputs, then gradients; below 0: not yet
  std::vector<RankState> states_;
  std::vector<RankTotals> totals_;
  std::vector<Interval> last_backward_;
  std::vector<int> runnable_;  // ranks whose next action may start
};

/// Times, memory and critical path of one run. `static_bytes`: per rank.
PipelineResult run_in_full(PipelineRun& run, const Schedule& schedule, const PipelineCosts& costs,
                           std::span<const Bytes> static_bytes);

}  // namespace gimbal
