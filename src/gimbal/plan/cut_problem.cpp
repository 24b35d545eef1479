#include "gimbal/plan/cut_problem.h"

#include <algorithm>

#include "gimbal/base/error.h"

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
  Bytes state = 0, saved = 0, workspace = 0;
  std::vector<Bytes> gathered;
  for (std::size_t i = begin; i < end; ++i) {
    const Recompute level = layout.recompute[i];
    state += costs.state_bytes(i);
    saved += costs.saved(i, problem.largest, level);
    workspace = std::max({workspace, costs.forward_workspace(i, problem.largest),
                          costs.backward_workspace(i, problem.largest, level)});
    gathered.push_back(costs.gathered_bytes(i));
  }
  // The block in use and the one that is fetched ahead.
  std::sort(gathered.rbegin(), gathered.rend());
  for (std::size_t k = 0; k < std::min<std::size_t>(2, gathered.size()); ++k) state += gathered[k];
  if (begin > 0) state += 2 * costs.cut_bytes(begin - 1, problem.largest);
  if (end < costs.num_blocks()) state += 2 * costs.cut_bytes(end - 1, problem.largest);
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
