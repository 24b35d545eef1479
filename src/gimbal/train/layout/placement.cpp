#include "gimbal/train/layout/placement.h"

#include <algorithm>

#include "gimbal/base/error.h"
#include "gimbal/parallel/ports.h"

namespace gimbal {
namespace {

/// The stage rank with which this one shares parameters: -1 for none. It is one at most.
int rank_of_tie(const Model& model, const RunLayout& layout, int own) {
  int other = -1;
  for (std::size_t borrower = 0; borrower < model.blocks.size(); ++borrower) {
    for (const ParameterPtr& parameter : model.blocks[borrower]->borrowed()) {
      for (std::size_t owner = 0; owner < borrower; ++owner) {
        const auto& owned = model.blocks[owner]->parameters();
        if (std::ranges::find(owned, parameter) == owned.end()) continue;
        const int a = layout.rank_of_block(owner), b = layout.rank_of_block(borrower);
        if (a == b || (a != own && b != own)) continue;
        const int rank = a == own ? b : a;
        GIMBAL_CHECK(other == -1 || other == rank, "parameters are shared with stage ranks ", other,
                     " and ", rank, ", the last one '", parameter->name, "'");
        other = rank;
      }
    }
  }
  return other;
}

std::vector<std::size_t> data_ranks_of(const MeshShape& mesh) {
  std::vector<std::size_t> result;
  for (int rank = 0; rank < mesh.devices(); ++rank) {
    const MeshCoordinates at = coordinates_of(mesh, rank);
    result.push_back(static_cast<std::size_t>(at.dp_replicate * mesh.dp_shard + at.dp_shard));
  }
  return result;
}

}  // namespace

Placement::Placement(CommWorld& comm, RunLayout layout, const std::string& name)
    : layout_(std::move(layout)),
      mesh_(comm, layout_.mesh, name),
      ports_(make_mesh_ports(mesh_.tp(), mesh_.sp(), mesh_.pack())),
      own_stages_(layout_.stages_of(mesh_.at().pp)),
      data_ranks_(data_ranks_of(layout_.mesh)) {
  comm.set_coordinates(to_string(layout_.mesh, mesh_.at()));
  connect_stages(pipeline_groups());
}

PipelineGroups Placement::pipeline_groups() const {
  return {&mesh_.pp_forward(), &mesh_.pp_backward()};
}

bool Placement::counts_loss() const { return mesh_.is_last_stage_rank() && mesh_.at().tp == 0; }

bool Placement::is_first_of_pack() const {
  const MeshCoordinates& at = mesh_.at();
  return at.pp == 0 && at.sp == 0 && at.tp == 0;
}

TileChoice Placement::tiles_read(const Model& model) const {
  return [&model, stages = own_stages_](std::int64_t num_tiles) {
    TileRange all;
    for (const BlockRange& range : stages) {
      for (std::size_t i = range.begin; i < range.end; ++i) {
        const TileRange own = model.blocks[i]->tiles_read(num_tiles);
        if (own.size() == 0) continue;
        all = all.size() == 0
                  ? own
                  : TileRange{std::min(all.begin, own.begin), std::max(all.end, own.end)};
      }
    }
    return all;
  };
}

StoreSetup Placement::store_setup(const Model& model) const {
  StoreSetup setup;
  setup.own_blocks = layout_.blocks_of(mesh_.at().pp, model.blocks.size());
  setup.shard = &mesh_.shard();
  setup.replicas = &mesh_.replicas();
  setup.whole_replicas = &mesh_.whole_replicas();
  setup.policy = layout_.policy;
  setup.prefetch = layout_.prefetch;
  const int tie = rank_of_tie(model, layout_, mesh_.at().pp);
  if (tie >= 0) setup.tied = {&mesh_.pp_backward(), tie};
  return setup;
}

}  // namespace gimbal
