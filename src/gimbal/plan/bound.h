// How fast a step can be at best on a mesh.
#pragma once

#include <span>
#include <vector>

#include "gimbal/cost/cost_model.h"
#include "gimbal/plan/plan.h"

namespace gimbal {

/// Micro-batches of one step on one mesh.
struct BoundInput {
  const CostModel* costs = nullptr;
  ScheduleShape schedule;
  std::vector<int> in_flight;               // per stage
  std::span<const WorkSize> micro_batches;  // of all data-parallel ranks
  double repeat = 1;                        // each of them comes so often
  Bytes capacity = 0;
};

/// Lower bounds on the time of the step over all cuts and recompute levels.
///   work: forward and backward of all micro-batches and the update, / (pp * data parallel).
///   critical path: the largest micro-batch through all blocks.
///   memory: work, and the cheapest recomputation that frees what the micro-batches in flight
///     exceed the memory of all stages by; infinite when nothing frees enough.
///   fill: the least over all cuts of the longest stage. Besides its work in the step, m t_s, a
///   stage
///     waits until the first micro-batch has passed the stages before it and until the last one has
///     passed them back; and it waits when the p - s forwards that its schedule runs before the
///     first backward are on their way through the stages behind. With P and S sums over the blocks
///     before and behind, f forward, i forward and input gradients, t all of a micro-batch:
///       1F1B:   T >= m t_s + P(t) + [S(t) - (p - 1 - s) f_s] + [S(t) - (p - 1 - s) (t_s - f_s)]
///       ZB-H1:  T >= m t_s + P(f) + [S(i) - (p - 1 - s) f_s]
///       GPipe:  T >= m t_s + P(t) + S(t)
///     ([x]: at least 0; the two of 1F1B are apart when m > p). As these depend on one stage's
///     blocks alone, the least over all cuts is exact. Waits count each block's shortest
///     micro-batch, what fills them its longest. 0 for one stage and for interleaved stages.
StepBound step_bound(const BoundInput& input);

}  // namespace gimbal
