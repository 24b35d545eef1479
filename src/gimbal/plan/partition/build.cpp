#include <algorithm>
#include <cmath>

#include "gimbal/base/error.h"
#include "gimbal/plan/partition.h"
#include "gimbal/sim/rank_state.h"

namespace gimbal {
namespace {

/// Whole units of time: picoseconds, or as much longer ones as keep sums over a step in range.
class TimeUnit {
 public:
  explicit TimeUnit(Seconds step) : per_second_(std::min(1e12, 0x1p58 / std::max(step, 1e-9))) {}
  std::int64_t count(Seconds seconds) const { return std::llround(seconds * per_second_); }

 private:
  double per_second_;
};

/// A step with everything recomputed on one rank: more than any sum of the partition.
Seconds longest_step(const CutProblem& cut) {
  const CostModel& costs = *cut.costs;
  Seconds seconds = 0;
  for (std::size_t i = 0; i < costs.num_blocks(); ++i) {
    seconds += costs.forward(i, cut.mean) + costs.backward(i, cut.mean) +
               costs.recompute(i, cut.mean, Recompute::kFull) +
               2 * costs.send_seconds(costs.cut_bytes(i, cut.mean));
  }
  return seconds * cut.micro_batches;
}

// Rounded up, so that what fits here fits.
std::int64_t whole_bytes(Bytes bytes) { return static_cast<std::int64_t>(std::ceil(bytes)); }

}  // namespace

PartitionProblem partition_problem(const CutProblem& cut, LevelChoice choice) {
  const CostModel& costs = *cut.costs;
  PartitionProblem problem;
  problem.num_stages = cut.num_stages;
  problem.in_flight = cut.in_flight;
  problem.micro_batches = cut.micro_batches;
  problem.capacity = static_cast<std::int64_t>(std::floor(cut.capacity));
  const bool all_wait = gradients_wait(costs, cut.micro_batches);
  const TimeUnit unit(longest_step(cut));
  for (std::size_t i = 0; i < costs.num_blocks(); ++i) {
    PartitionBlock block;
    const Seconds kept = costs.forward(i, cut.mean) + costs.backward(i, cut.mean);
    const std::vector<Recompute>& levels = costs.levels(i);
    for (const Recompute level : levels) {
      block.options.push_back(
          {unit.count(kept + costs.recompute(i, cut.mean, level)),
           whole_bytes(costs.saved(i, cut.largest, level)),
           whole_bytes(std::max(costs.forward_workspace(i, cut.largest),
                                costs.backward_workspace(i, cut.largest, level)))});
    }
    if (choice == LevelChoice::kFullOnly) block.options = {block.options.back()};
    block.state = whole_bytes(lasting_bytes(costs, i, cut.micro_batches));
    block.gathered = whole_bytes(costs.gathered_bytes(i));
    if (!all_wait) block.gradient = whole_bytes(costs.whole_gradient_bytes(i));
    const Seconds message = costs.send_seconds(costs.cut_bytes(i, cut.mean));
    // A round trip between two neighbours makes both wait for one message per micro-batch; a stage
    // between two cuts waits for both at the same time.
    block.cut_time = unit.count(cut.num_stages > 2 ? message / 2 : message);
    block.cut_bytes = whole_bytes(kMessagesPerNeighbour * costs.cut_bytes(i, cut.largest));
    problem.blocks.push_back(std::move(block));
  }
  const ModelDesc& model = costs.model();
  if (const std::size_t embedding = tied_embedding(model);
      embedding < costs.num_blocks() && model.blocks.back().kind == BlockKind::kTextHead) {
    problem.tied_block = embedding;
    problem.tied_gradient_waits =
        !all_wait && costs.settings().shard_policy == ShardPolicy::kKeepWeights;
  }
  return problem;
}

StageLayout to_layout(const Partition& partition, const CostModel& costs, LevelChoice choice) {
  StageLayout layout;
  layout.stage_begin = partition.stage_begin;
  for (std::size_t i = 0; i < costs.num_blocks(); ++i) {
    const std::vector<Recompute>& levels = costs.levels(i);
    layout.recompute.push_back(choice == LevelChoice::kFullOnly ? levels.back()
                                                                : levels[partition.option[i]]);
  }
  return layout;
}

}  // namespace gimbal
