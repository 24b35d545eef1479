#include "gimbal/sim/stage_costs.h"

#include <algorithm>

#include "gimbal/base/error.h"

namespace gimbal {
namespace {

bool cost_the_same(const CostModel& costs, std::size_t a, std::size_t b) {
  const BlockDesc& x = costs.model().blocks[a];
  const BlockDesc& y = costs.model().blocks[b];
  return x.kind == y.kind && x.unused == y.unused && x.num_parameters == y.num_parameters &&
         x.num_expert_parameters == y.num_expert_parameters &&
         x.output_values_per_row == y.output_values_per_row &&
         x.carried_values_per_vision_row == y.carried_values_per_vision_row &&
         x.tensor_reductions == y.tensor_reductions &&
         x.exchanged_values_per_row == y.exchanged_values_per_row &&
         x.dispatched_values_per_row == y.dispatched_values_per_row &&
         costs.need(a).weights == costs.need(b).weights &&
         costs.need(a).inputs == costs.need(b).inputs && x.cost_class == y.cost_class;
}

/// Blocks one after another on one stream, their gathers on another. Two gathered copies fit at a
/// time: a gather waits until the block before the previous one is done. Nothing hides the first.
class GatherStreams {
 public:
  void run(Seconds gather, Seconds block) {
    gathered_ = std::max(gathered_, before_last_) + gather;
    before_last_ = last_;
    last_ = std::max(gathered_, last_) + block;
  }
  Seconds seconds() const { return last_; }

 private:
  Seconds gathered_ = 0, before_last_ = 0, last_ = 0;  // ends
};

}  // namespace

StageCosts::StageCosts(const CostModel& costs, const StageLayout& layout, std::size_t first_stage,
                       std::size_t end_stage)
    : costs_(costs), reshard_(costs.settings().shard_policy == ShardPolicy::kReshard) {
  GIMBAL_CHECK_LE(end_stage, layout.num_stages());
  GIMBAL_CHECK_EQ(layout.recompute.size(), costs.num_blocks());
  GIMBAL_CHECK_EQ(layout.stage_begin.back(), costs.num_blocks());
  stage_first_.push_back(0);
  for (std::size_t stage = first_stage; stage < end_stage; ++stage) {
    GIMBAL_CHECK(layout.stage_begin[stage] < layout.stage_begin[stage + 1], "stage ", stage,
                 " has no block");
    std::vector<Part>& parts = parts_.emplace_back();
    for (std::size_t b = layout.stage_begin[stage]; b < layout.stage_begin[stage + 1]; ++b) {
      const std::size_t group = group_of(b, layout.recompute[b]);
      groups_[group].count += 1;
      block_group_.push_back(group);
      const auto part =
          std::find_if(parts.begin(), parts.end(), [&](const Part& p) { return p.group == group; });
      if (part == parts.end()) {
        parts.push_back({group, 1});
      } else {
        part->count += 1;
      }
    }
    stage_first_.push_back(block_group_.size());
    last_block_.push_back(layout.stage_begin[stage + 1] - 1);
  }
}

std::size_t StageCosts::group_of(std::size_t block, Recompute level) {
  for (std::size_t g = 0; g < groups_.size(); ++g) {
    if (groups_[g].level == level && cost_the_same(costs_, groups_[g].block, block)) return g;
  }
  Group group;
  group.block = block;
  group.level = level;
  group.gather = costs_.gather_seconds(block);
  if (reshard_) group.scatter = costs_.reduce_seconds(block);
  groups_.push_back(group);
  return groups_.size() - 1;
}

void StageCosts::evaluate(const WorkSize& work) {
  work_ = work;
  for (Group& group : groups_) {
    const std::size_t block = group.block;
    group.forward = costs_.forward(block, work);
    group.backward = costs_.backward(block, work);
    group.backward_input = costs_.backward_input(block, work);
    group.backward_weight = costs_.backward_weight(block, work);
    group.recompute = costs_.recompute(block, work, group.level);
    group.communication =
        costs_.forward_communication(block, work) + costs_.backward_communication(block, work);
    group.recompute_communication = costs_.recompute_communication(block, work, group.level);
    group.saved = costs_.saved(block, work, group.level);
    group.forward_workspace = costs_.forward_workspace(block, work);
    group.backward_workspace = costs_.backward_workspace(block, work, group.level);
    const GradientNeed& need = costs_.need(block);
    group.backward_gathers = need.weights || need.inputs;
    group.input_gathers = need.inputs || group.recompute > 0;
  }
}

StageWork StageCosts::stage_work(std::size_t stage) const {
  StageWork sum;
  for (const Part& part : parts_[stage]) {
    const Group& group = groups_[part.group];
    sum.forward += part.count * group.forward;
    sum.backward += part.count * (group.backward + group.recompute);
    sum.backward_input += part.count * (group.backward_input + group.recompute);
    sum.backward_weight += part.count * group.backward_weight;
    sum.saved += part.count * group.saved;
    sum.forward_workspace = std::max(sum.forward_workspace, group.forward_workspace);
    sum.backward_workspace = std::max(sum.backward_workspace, group.backward_workspace);
  }
  if (reshard_) add_gathered_times(stage, sum);
  const std::size_t last = last_block_[stage];
  if (last + 1 < costs_.num_blocks()) sum.send = costs_.cut_bytes(last, work_);
  return sum;
}

void StageCosts::add_gathered_times(std::size_t stage, StageWork& sum) const {
  GatherStreams forward, backward, backward_input, backward_weight;
  for (std::size_t i = stage_first_[stage]; i < stage_first_[stage + 1]; ++i) {
    const Group& group = groups_[block_group_[i]];
    forward.run(group.gather, group.forward);
  }
  for (std::size_t i = stage_first_[stage + 1]; i-- > stage_first_[stage];) {
    const Group& group = groups_[block_group_[i]];
    if (!group.backward_gathers) continue;  // frozen, and so is all before it: no backward
    // Gradients are held in shards: each backward reduces them, on the stream of the gathers.
    backward.run(group.gather + group.scatter, group.backward + group.recompute);
    backward_weight.run(group.scatter, group.backward_weight);
    // Weight gradients need what was saved and the gradient of the output, not the weights.
    if (group.input_gathers) {
      backward_input.run(group.gather, group.backward_input + group.recompute);
    }
  }
  sum.forward = forward.seconds();
  sum.backward = backward.seconds();
  sum.backward_input = backward_input.seconds();
  sum.backward_weight = backward_weight.seconds();
}

StageCosts::Sums StageCosts::sums() const {
  Sums sums;
  for (const Group& group : groups_) {
    sums.compute += group.count * (group.forward + group.backward - group.communication);
    sums.recompute += group.count * (group.recompute - group.recompute_communication);
    sums.communication += group.count * (group.communication + group.recompute_communication);
  }
  return sums;
}

Seconds StageCosts::earliest_forward(std::size_t stage, Seconds& gather_clock) const {
  Seconds done = 0;
  Seconds forward = 0;
  for (std::size_t i = stage_first_[stage]; i < stage_first_[stage + 1]; ++i) {
    const Group& group = groups_[block_group_[i]];
    gather_clock += group.gather;
    done = std::max(done, gather_clock) + group.forward;
    forward += group.forward;
  }
  return done - forward;
}

std::vector<double> StageCosts::finished_shares(std::size_t stage, bool split) const {
  const std::size_t first = stage_first_[stage];
  std::vector<double> shares(stage_first_[stage + 1] - first);
  Seconds passed = 0;
  for (std::size_t i = shares.size(); i-- > 0;) {
    const Group& group = groups_[block_group_[first + i]];
    passed += split ? group.backward_weight : group.backward + group.recompute;
    shares[i] = passed;
  }
  for (double& share : shares) share = passed > 0 ? share / passed : 1;
  return shares;
}

}  // namespace gimbal
