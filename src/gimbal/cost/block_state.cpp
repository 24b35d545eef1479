// Parameters, gradients and optimizer state of a block on the mesh, and what moves them.
#include <algorithm>

#include "gimbal/cost/communication.h"
#include "gimbal/cost/cost_model.h"

namespace gimbal {

std::vector<CostModel::ParameterGroup> CostModel::parameter_groups(const BlockDesc& desc) const {
  const MeshShape& mesh = settings_.mesh;
  std::vector<ParameterGroup> groups;
  const auto experts = static_cast<double>(desc.num_expert_parameters);
  groups.push_back({.parameters = rank_dense_parameters(desc, mesh.tp),
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
  BlockState state;
  for (const ParameterGroup& group : parameter_groups(model_.blocks[block])) {
    if (group.parameters == 0) continue;
    const double mine = group.parameters / group.shards;
    const bool sharded = group.shards > 1;
    state.state += bytes.master * mine;
    if (trained) state.state += (bytes.gradient + bytes.moments) * mine;
    // A copy that is gathered is one in the masters' own dtype, too.
    const double copy = sharded ? copy_bytes : bytes.compute;
    (sharded && reshard ? state.gathered : state.state) += copy * group.parameters;
    if (sharded && trained) state.whole_gradient += bytes.gradient * group.parameters;
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
