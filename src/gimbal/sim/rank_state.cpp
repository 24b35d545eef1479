#include "gimbal/sim/rank_state.h"

#include "gimbal/sim/two_largest.h"

namespace gimbal {

bool gradients_wait(const CostModel& costs, int micro_batches) {
  return costs.settings().shard_policy == ShardPolicy::kKeepWeights && micro_batches > 1;
}

Bytes lasting_bytes(const CostModel& costs, std::size_t block, int micro_batches) {
  const bool waits = gradients_wait(costs, micro_batches);
  return costs.state_bytes(block) + (waits ? costs.whole_gradient_bytes(block) : 0);
}

RankState rank_state(const CostModel& costs, const std::vector<BlockSpan>& spans,
                     int micro_batches) {
  std::vector<std::size_t> blocks;
  for (const BlockSpan& span : spans) {
    for (std::size_t i = span.begin; i < span.end; ++i) blocks.push_back(i);
  }
  const std::size_t embedding = tied_embedding(costs.model());
  const TiedUse tied = tied_use(costs.model(), blocks);
  if (tied == TiedUse::kCopy) blocks.push_back(embedding);
  const bool all_wait = gradients_wait(costs, micro_batches);
  const bool tied_waits =
      tied == TiedUse::kBoth && costs.settings().shard_policy == ShardPolicy::kKeepWeights;
  RankState result;
  TwoLargest<Bytes> copies, gradients;
  Bytes waiting = 0;
  for (const std::size_t i : blocks) {
    result.state += costs.state_bytes(i);
    copies.add(costs.gathered_bytes(i));
    if (all_wait || (tied_waits && i == embedding))
      waiting += costs.whole_gradient_bytes(i);
    else
      gradients.add(costs.whole_gradient_bytes(i));
  }
  result.gathered = copies.sum() + waiting + gradients.sum();
  return result;
}

}  // namespace gimbal
