#include "gimbal/plan/cut_problem.h"

#include <algorithm>

#include "gimbal/base/error.h"
#include "gimbal/sim/rank_state.h"

namespace gimbal {

Seconds stage_seconds(const CostModel& costs, const StageLayout& layout, std::size_t stage,
                      const WorkSize& work) {
  Seconds seconds = 0;
  for (std::size_t i = layout.stage_begin[stage]; i < layout.stage_begin[stage + 1]; ++i) {
    seconds += costs.forward(i, work) + costs.backward(i, work) +
               costs.recompute(i, work, layout.recompute[i]);
  }
  return seconds;
}

Bytes stage_bytes(const CutProblem& problem, const StageLayout& layout, std::size_t stage) {
  const CostModel& costs = *problem.costs;
  const std::size_t begin = layout.stage_begin[stage], end = layout.stage_begin[stage + 1];
  Bytes state = rank_state(costs, {{begin, end}}, problem.micro_batches).total();
  Bytes saved = 0, workspace = 0;
  for (std::size_t i = begin; i < end; ++i) {
    const Recompute level = layout.recompute[i];
    saved += costs.saved(i, problem.largest, level);
    workspace = std::max({workspace, costs.forward_workspace(i, problem.largest),
                          costs.backward_workspace(i, problem.largest, level)});
  }
  for (const std::size_t cut : {begin, end}) {
    if (cut > 0 && cut < costs.num_blocks())
      state += kMessagesPerNeighbour * costs.cut_bytes(cut - 1, problem.largest);
  }
  return state + problem.in_flight[stage] * saved + workspace;
}

bool fits(const CutProblem& problem, const StageLayout& layout) {
  GIMBAL_CHECK_EQ(problem.in_flight.size(), layout.num_stages());
  for (std::size_t stage = 0; stage < layout.num_stages(); ++stage) {
    if (stage_bytes(problem, layout, stage) > problem.capacity) return false;
  }
  return true;
}

}  // namespace gimbal
