#include "gimbal/parallel/mesh.h"

#include <algorithm>

#include "gimbal/base/error.h"

namespace gimbal {
namespace {

/// Axes along which the members of a group differ.
struct MeshAxes {
  bool pp = false;
  bool dp_replicate = false;
  bool dp_shard = false;
  bool sp = false;
  bool tp = false;
};

/// The ranks that differ from `at` along `axes` only, in rank order.
std::vector<int> ranks_along(const MeshShape& shape, const MeshCoordinates& at,
                             const MeshAxes& axes) {
  std::vector<int> ranks;
  for (int rank = 0; rank < shape.devices(); ++rank) {
    const MeshCoordinates other = coordinates_of(shape, rank);
    if ((axes.pp || other.pp == at.pp) &&
        (axes.dp_replicate || other.dp_replicate == at.dp_replicate) &&
        (axes.dp_shard || other.dp_shard == at.dp_shard) && (axes.sp || other.sp == at.sp) &&
        (axes.tp || other.tp == at.tp))
      ranks.push_back(rank);
  }
  return ranks;
}

/// "dp_replicate x sp": those above 1.
std::string names_of(const MeshAxes& axes, const MeshShape& shape) {
  std::string text;
  const auto add = [&](const char* axis, bool along, int size) {
    if (along && size > 1) text += concat(text.empty() ? "" : " x ", axis);
  };
  add("pp", axes.pp, shape.pp);
  add("dp_replicate", axes.dp_replicate, shape.dp_replicate);
  add("dp_shard", axes.dp_shard, shape.dp_shard);
  add("sp", axes.sp, shape.sp);
  add("tp", axes.tp, shape.tp);
  return text;
}

/// Joined to the world first, so that errors of the connections below know where they are.
MeshCoordinates join_mesh(CommWorld& comm, const MeshShape& shape) {
  GIMBAL_CHECK_EQ(comm.world().size(), shape.devices());
  const MeshCoordinates at = coordinates_of(shape, comm.world().rank());
  comm.set_coordinates(to_string(shape, at));
  return at;
}

}  // namespace

MeshCoordinates coordinates_of(const MeshShape& shape, int rank) {
  GIMBAL_CHECK(rank >= 0 && rank < shape.devices(), "rank ", rank, " of ", shape.devices());
  MeshCoordinates at;
  at.tp = rank % shape.tp;
  rank /= shape.tp;
  at.sp = rank % shape.sp;
  rank /= shape.sp;
  at.dp_shard = rank % shape.dp_shard;
  rank /= shape.dp_shard;
  at.dp_replicate = rank % shape.dp_replicate;
  at.pp = rank / shape.dp_replicate;
  return at;
}

int rank_of(const MeshShape& shape, const MeshCoordinates& at) {
  return (((at.pp * shape.dp_replicate + at.dp_replicate) * shape.dp_shard + at.dp_shard) *
              shape.sp +
          at.sp) *
             shape.tp +
         at.tp;
}

std::string to_string(const MeshShape& shape, const MeshCoordinates& at) {
  std::string text;
  const auto add = [&](const char* axis, int size, int place) {
    if (size > 1) text += concat(text.empty() ? "" : ", ", axis, " ", place);
  };
  add("pp", shape.pp, at.pp);
  add("dp_replicate", shape.dp_replicate, at.dp_replicate);
  add("dp_shard", shape.dp_shard, at.dp_shard);
  add("sp", shape.sp, at.sp);
  add("tp", shape.tp, at.tp);
  return text;
}

Mesh::Mesh(CommWorld& comm, const MeshShape& shape, const std::string& name)
    : comm_(comm), shape_(shape), at_(join_mesh(comm, shape)), axes_of_group_{{"world", "all"}} {
  // All members of a group make it at the same point of this list, so nobody waits for a group that
  // another rank has put off.
  const auto make = [&](const char* group, const MeshAxes& axes) -> std::shared_ptr<Comm> {
    axes_of_group_[name + "." + group] = names_of(axes, shape);
    return comm.make_group(name + "." + group, ranks_along(shape, at_, axes));
  };
  tp_ = make("tp", {.tp = true});
  // Groups that are called at the same points of a step share their connections when they have the
  // same members.
  sp_ = make("sp", {.sp = true});
  pack_ = shape.sp == 1 ? tp_ : shape.tp == 1 ? sp_ : make("pack", {.sp = true, .tp = true});
  shard_ = make("dp_shard", {.dp_shard = true});
  replicas_ = make("replicas", {.dp_replicate = true, .sp = true});
  whole_replicas_ = shape.tp == 1
                        ? replicas_
                        : make("whole_replicas", {.dp_replicate = true, .sp = true, .tp = true});
  pp_forward_ = make("pp_forward", {.pp = true});
  pp_backward_ = make("pp_backward", {.pp = true});
}

std::vector<CommTotal> Mesh::totals() const {
  std::vector<CommTotal> sums;
  for (CommTotal& total : comm_.totals()) {
    const auto axes = axes_of_group_.find(total.group);
    if (axes == axes_of_group_.end()) continue;
    total.group = axes->second;
    const auto sum = std::ranges::find_if(sums, [&total](const CommTotal& other) {
      return other.group == total.group && other.call == total.call;
    });
    if (sum == sums.end()) {
      sums.push_back(std::move(total));
      continue;
    }
    sum->calls += total.calls;
    sum->bytes += total.bytes;
    sum->wait_seconds += total.wait_seconds;
  }
  return sums;
}

}  // namespace gimbal
