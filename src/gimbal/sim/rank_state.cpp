#include "gimbal/sim/rank_state.h"

#include <algorithm>

namespace gimbal {
namespace {

/// Sum of the two largest of the values that it is told.
class TwoLargest {
 public:
  void add(Bytes bytes) {
    second_ = std::max(second_, std::min(bytes, first_));
    first_ = std::max(first_, bytes);
  }
  Bytes sum() const { return first_ + second_; }

 private:
  Bytes first_ = 0, second_ = 0;
};

}  // namespace

std::size_t tied_embedding(const CostModel& costs) {
  const ModelDesc& model = costs.model();
  if (!model.tied_embeddings) return costs.num_blocks();
  const auto embed = std::ranges::find(model.blocks, BlockKind::kTextEmbed, &BlockDesc::kind);
  return static_cast<std::size_t>(embed - model.blocks.begin());
}

RankState rank_state(const CostModel& costs, const std::vector<BlockSpan>& spans,
                     int micro_batches) {
  std::vector<std::size_t> blocks;
  const std::size_t embedding = tied_embedding(costs);
  bool has_embedding = false, has_head = false;
  for (const BlockSpan& span : spans) {
    for (std::size_t i = span.begin; i < span.end; ++i) {
      blocks.push_back(i);
      has_embedding = has_embedding || i == embedding;
      has_head = has_head || costs.model().blocks[i].kind == BlockKind::kTextHead;
    }
  }
  if (has_head && !has_embedding && embedding < costs.num_blocks()) blocks.push_back(embedding);
  RankState result;
  TwoLargest copies, gradients;
  Bytes all_gradients = 0;
  for (const std::size_t i : blocks) {
    result.state += costs.state_bytes(i);
    copies.add(costs.gathered_bytes(i));
    gradients.add(costs.whole_gradient_bytes(i));
    all_gradients += costs.whole_gradient_bytes(i);
  }
  const bool reshard = costs.settings().shard_policy == ShardPolicy::kReshard;
  const bool wait = !reshard && micro_batches > 1;
  result.gathered = copies.sum() + (wait ? all_gradients : gradients.sum());
  return result;
}

}  // namespace gimbal
