// The device mesh: this rank's place on each axis and the groups along them.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "gimbal/config/mesh_shape.h"
#include "gimbal/parallel/comm.h"

namespace gimbal {

/// Place on each axis. Neighbouring ranks differ first in tp, then sp, dp_shard, dp_replicate, pp:
/// rank = (((pp * dp_replicate + r) * dp_shard + s) * sp + q) * tp + t.
struct MeshCoordinates {
  int pp = 0;
  int dp_replicate = 0;
  int dp_shard = 0;
  int sp = 0;
  int tp = 0;
  bool operator==(const MeshCoordinates&) const = default;
};

MeshCoordinates coordinates_of(const MeshShape& shape, int rank);
int rank_of(const MeshShape& shape, const MeshCoordinates& at);
/// "pp 1, tp 0": the axes above 1; empty when there is none.
std::string to_string(const MeshShape& shape, const MeshCoordinates& at);

/// Groups are made once, in the order of the members below, on all ranks alike.
class Mesh {
 public:
  /// Collective. `shape.devices()` is the world's size (the caller has checked it). `name`: unique
  /// among the meshes of the launch.
  Mesh(CommWorld& comm, const MeshShape& shape, const std::string& name);

  const MeshShape& shape() const { return shape_; }
  const MeshCoordinates& at() const { return at_; }
  /// Which of the ranks that run different packs this one is, and how many there are.
  int data_rank() const { return at_.dp_replicate * shape_.dp_shard + at_.dp_shard; }
  int num_data_ranks() const { return shape_.data_parallel(); }
  bool is_last_stage_rank() const { return at_.pp == shape_.pp - 1; }

  Comm& world() const { return comm_.world(); }
  Comm& tp() const { return *tp_; }
  Comm& sp() const { return *sp_; }
  /// sp x tp: the ranks that share each pack; sp part by sp part.
  Comm& pack() const { return *pack_; }
  Comm& shard() const { return *shard_; }  // dp_shard
  /// Ranks that hold the same parameters: dp_replicate x sp for those cut over tp.
  Comm& replicas() const { return *replicas_; }
  /// dp_replicate x sp x tp: for parameters that every tp rank holds whole.
  Comm& whole_replicas() const { return *whole_replicas_; }
  /// Stages of one pipeline; forward and backward messages do not wait for each other.
  Comm& pp_forward() const { return *pp_forward_; }
  Comm& pp_backward() const { return *pp_backward_; }

  /// CommWorld::totals of this mesh's groups and of the world's, with the axes ("dp_shard",
  /// "dp_replicate x sp", "all") in place of the groups; groups along the same axes are added up.
  std::vector<CommTotal> totals() const;

 private:
  CommWorld& comm_;
  MeshShape shape_;
  MeshCoordinates at_;
  std::map<std::string, std::string> axes_of_group_;
  std::shared_ptr<Comm> tp_, sp_, pack_, shard_, replicas_, whole_replicas_, pp_forward_,
      pp_backward_;
};

}  // namespace gimbal
