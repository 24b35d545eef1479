// Event simulation of one pipeline: when each action runs, what each rank holds.
#pragma once

#include <cstdint>
#include <vector>

#include "gimbal/base/units.h"
#include "gimbal/cost/profile_table.h"
#include "gimbal/schedule/schedule.h"

namespace gimbal {

/// Costs of one (stage, micro-batch).
struct StageWork {
  Seconds forward = 0;
  Seconds backward = 0;         // with recompute; for kBackward
  Seconds backward_input = 0;   // with recompute; for kBackwardInput
  Seconds backward_weight = 0;  // for kBackwardWeight
  /// Held from the start of forward to the end of kBackward or, with split backward, of
  /// kBackwardWeight.
  Bytes saved = 0;
  Bytes forward_workspace = 0;   // held on top while forward runs
  Bytes backward_workspace = 0;  // held on top while any kind of backward runs
  Bytes send = 0;  // forward to the next stage; the gradient back is as large. Last stage: 0
};

struct PipelineInput {
  const Schedule* schedule = nullptr;
  std::vector<StageWork> work;      // [stage * num_micro_batches + micro_batch]
  std::vector<LinkCost> links;      // [num_stages - 1]: between stage s and s + 1
  std::vector<Bytes> static_bytes;  // [num_ranks]: parameters, gradients, optimizer
  /// True: the sender goes on computing while a message is on its way (the link carries one message
  /// per direction at a time). False: the sender waits until it is sent.
  bool overlap_sends = true;
  /// [num_stages], or empty: no forward of the stage starts before, as its parameters are not
  /// there.
  std::vector<Seconds> earliest_start;
};

struct ActionTimes {
  Action action;
  Seconds start = 0;
  Seconds end = 0;
  // Held by the rank, static bytes included: while the action runs (with its workspace), and then.
  Bytes bytes = 0;
  Bytes bytes_after = 0;
};

struct PipelineResult {
  Seconds seconds = 0;  // until the last action ends
  std::vector<std::vector<ActionTimes>> ranks;
  std::vector<Seconds> busy;       // per rank: time computing
  std::vector<Seconds> send_wait;  // per rank: time waiting for own sends (overlap_sends false)
  std::vector<Bytes> peak_bytes;   // per rank, static bytes included
  /// Per rank: index into ranks[r] of the first action at the peak.
  std::vector<std::size_t> peak_action;
  /// Longest chain of actions and messages that need each other's results, on ranks and links
  /// without limit. Never above `seconds`.
  Seconds critical_path = 0;
};

/// Each rank runs its actions in order, each as soon as the rank is free and the message that it
/// needs is there. Messages from one rank to another, of any stage and in either sense, go one
/// after another in the order they are sent; each holds the link for its latency and its transfer.
/// With one rank there are no messages. Linear in the number of actions. The schedule must be
/// valid (check_schedule): throws InternalError when it comes to no end.
PipelineResult simulate_pipeline(const PipelineInput& input);

}  // namespace gimbal
