#include "gimbal/sim/reduction.h"

#include <algorithm>

namespace gimbal {
namespace {

struct LastBackward {
  std::size_t stage = 0;
  bool split = false;
};

/// The stages of a rank in the order in which they run their last backward.
std::vector<LastBackward> stages_by_last_backward(const std::vector<Action>& actions) {
  std::vector<LastBackward> order;
  for (std::size_t i = actions.size(); i-- > 0;) {
    const ActionKind kind = actions[i].kind;
    if (kind != ActionKind::kBackward && kind != ActionKind::kBackwardWeight) continue;
    const auto stage = static_cast<std::size_t>(actions[i].stage);
    const bool known = std::any_of(order.begin(), order.end(),
                                   [&](const LastBackward& l) { return l.stage == stage; });
    if (!known) order.push_back({stage, kind == ActionKind::kBackwardWeight});
  }
  std::reverse(order.begin(), order.end());
  return order;
}

}  // namespace

std::vector<Seconds> reduction_ends(const CostModel& costs, const StageLayout& layout,
                                    const Schedule& schedule, const StageCosts& stages,
                                    std::span<const PipelineRun::Interval> last_backward) {
  const std::size_t num_stages = layout.num_stages();
  std::vector<Seconds> ends(schedule.ranks.size(), 0);
  // Sharded gradients are reduced in each backward.
  if (costs.settings().shard_policy == ShardPolicy::kReshard) return ends;
  for (std::size_t rank = 0; rank < ends.size(); ++rank) {
    Seconds& clock = ends[rank];
    for (const auto& [stage, split] : stages_by_last_backward(schedule.ranks[rank])) {
      const std::vector<double> shares = stages.finished_shares(stage, split);
      for (std::size_t i = shares.size(); i-- > 0;) {
        const Seconds seconds = costs.reduce_seconds(layout.stage_begin[stage] + i);
        if (seconds <= 0) continue;
        Seconds complete = 0;
        for (std::size_t at = stage; at < last_backward.size(); at += num_stages) {
          const PipelineRun::Interval& interval = last_backward[at];
          const Seconds passed = shares[i] * (interval.end - interval.start);
          complete = std::max(complete, interval.start + passed);
        }
        clock = std::max(clock, complete) + seconds;
      }
    }
  }
  return ends;
}

}  // namespace gimbal
