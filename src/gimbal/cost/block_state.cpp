// Parameters, gradients and optimizer state of a block on the mesh, and what moves them.
#include <algorithm>

#include "gimbal/cost/communication.h"
#include "gimbal/cost/cost_model.h"

namespace gimbal {

std::vector<CostModel::ParameterGroup> CostModel::parameter_groups(const BlockDesc& desc) const {
  const MeshShape& mesh = settings_.mesh;
  std::vector<ParameterGroup> groups;
  const auto experts = static_cast<double>(desc.num_expert_parameters);
  const double dense = static_cast<double>(desc.num_parameters) - experts;
  groups.push_back({.parameters = dense / mesh.tp,
                    .shards = mesh.dp_shard,
                    .stride = mesh.tp * mesh.sp,
                    .copied_over_sp = true});
  if (experts > 0) {
    groups.push_back({.parameters = experts / (mesh.tp * mesh.ep),
                      .shards = mesh.dp_shard * mesh.sp / mesh.ep,
                      .stride = mesh.tp * mesh.ep,
                      .copied_over_sp = false});
  }
  return groups;
}

CostModel::BlockState CostModel::block_state(std::size_t block) const {
  const MeshShape& mesh = settings_.mesh;
  const StateBytes& bytes = settings_.state;
  const bool trained = needs_[block].weights;
  const bool reshard = settings_.shard_policy == ShardPolicy::kReshard;
  // Blocks use the masters themselves where there is no other copy.
  const double copy_bytes = bytes.compute > 0 ? bytes.compute : bytes.master;
  const double sharded_bytes = bytes.moments + (bytes.compute > 0 ? bytes.master : 0);
  BlockState state;
  for (const ParameterGroup& group : parameter_groups(model_.blocks[block])) {
    if (group.parameters == 0) continue;
    const double mine = group.parameters / group.shards;
    state.state += copy_bytes * (reshard ? mine : group.parameters);
    // Gradients that are reduced once per step are whole until then.
    if (trained)
      state.state += sharded_bytes * mine + bytes.gradient * (reshard ? mine : group.parameters);
    if (group.shards > 1 && reshard)
      state.gathered += (copy_bytes + (trained ? bytes.gradient : 0)) * group.parameters;
    if (group.shards > 1 && (reshard || trained)) {
      state.gather += all_gather_seconds(link(group.shards, group.stride, "dp_shard"), group.shards,
                                         copy_bytes * group.parameters);
    }
    if (!trained) continue;
    state.optimizer += profile_.optimizer_per_parameter * mine;
    if (group.shards > 1) {
      state.reduce += reduce_scatter_seconds(link(group.shards, group.stride, "dp_shard"),
                                             group.shards, bytes.gradient * group.parameters);
    }
    // What is left is the rank's shard; the ranks that hold the same shard add theirs.
    if (group.copied_over_sp && mesh.sp > 1) {
      state.reduce +=
          all_reduce_seconds(link(mesh.sp, mesh.tp, "sp"), mesh.sp, bytes.gradient * mine);
    }
    if (mesh.dp_replicate > 1) {
      const int stride = mesh.tp * mesh.sp * mesh.dp_shard;
      state.reduce += all_reduce_seconds(link(mesh.dp_replicate, stride, "dp_replicate"),
                                         mesh.dp_replicate, bytes.gradient * mine);
    }
  }
  return state;
}

}  // namespace gimbal
