// Cutting one pipeline: what every partition and recompute method starts from.
#pragma once

#include <vector>

#include "gimbal/cost/cost_model.h"
#include "gimbal/sim/step.h"

namespace gimbal {

struct CutProblem {
  const CostModel* costs = nullptr;
  int num_stages = 1;
  /// Per stage: micro-batches whose activations are held at a time (most_in_flight).
  std::vector<int> in_flight;
  int micro_batches = 1;  // of a rank in a step
  WorkSize mean;          // of a micro-batch: what time is counted for
  WorkSize largest;       // in every component: what memory has to hold
  Bytes capacity = 0;     // of a device, what is not ours already taken off
};

/// Seconds of forward + backward + recompute that the blocks begin .. end - 1 take for `work`.
Seconds stage_seconds(const CostModel& costs, const StageLayout& layout, std::size_t stage,
                      const WorkSize& work);
/// Peak bytes of a rank of the stage: rank_state, in_flight x saved activations, the largest
/// workspace, and the messages' buffers at each of its cuts.
Bytes stage_bytes(const CutProblem& problem, const StageLayout& layout, std::size_t stage);
/// Whether stage_bytes is within the capacity for every stage.
bool fits(const CutProblem& problem, const StageLayout& layout);

}  // namespace gimbal
