// A small model's parameters as the ranks of any mesh hold them, for the tests of checkpoints.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "gimbal/base/rng.h"
#include "gimbal/checkpoint/run_checkpoint.h"
#include "gimbal/config/mesh_shape.h"
#include "gimbal/nn/parameter.h"
#include "gimbal/parallel/mesh.h"
#include "gimbal/parallel/store/flat_unit.h"

namespace gimbal::testing {

struct MeshParameter {
  std::string name;
  std::string block;
  std::vector<std::int64_t> shape;
  int tp_dim = -1;
  bool trainable = true;
  int group = 0;
  bool on_last_stage = false;  // tied: the last stage has a copy
};

/// Blocks text.embed, text.0 .. text.2, text.head with parameters cut along both dims, unevenly,
/// and whole ones; vision.0 is frozen.
inline std::vector<MeshParameter> mesh_parameters() {
  std::vector<MeshParameter> all{{"vision.0.weight", "vision.0", {6, 5}, 0, false},
                                 {"text.embed.weight", "text.embed", {11, 4}, 0, true, 0, true}};
  for (const char* number : {"0", "1", "2"}) {
    const std::string block = std::string("text.") + number;
    all.push_back({block + ".q.weight", block, {10, 7}, 0});
    all.push_back({block + ".o.weight", block, {7, 10}, 1});
    all.push_back({block + ".norm.weight", block, {7}, -1, true, 1});
  }
  all.push_back({"text.head.scale", "text.head", {}, -1, true, 1});
  return all;
}

inline at::Tensor values_of(const MeshParameter& parameter, double start,
                            at::ScalarType dtype = at::kFloat) {
  std::int64_t numel = 1;
  for (const std::int64_t size : parameter.shape) numel *= size;
  const double first = start + static_cast<double>(hash_name(parameter.name) % 1000);
  return at::arange(first, first + static_cast<double>(numel), dtype).reshape(parameter.shape);
}

/// What one rank of a mesh holds.
struct MeshRank {
  std::vector<FlatShard> shards;
  std::vector<OptimizerTensors> optimizer;
};

namespace mesh_detail {

// begin of part `i` of `total` cut into `parts`.
inline std::int64_t cut(std::int64_t total, int parts, int i) { return total * i / parts; }

inline ParameterPtr parameter_of(const MeshParameter& described, const MeshShape& mesh,
                                 const MeshCoordinates& at) {
  auto made = std::make_shared<Parameter>();
  made->name = described.name;
  made->shape = made->full_shape = described.shape;
  made->trainable = described.trainable;
  if (described.tp_dim >= 0) {
    const std::int64_t total = described.shape[static_cast<std::size_t>(described.tp_dim)];
    const std::int64_t begin = cut(total, mesh.tp, at.tp);
    take_part(*made, described.tp_dim, begin, cut(total, mesh.tp, at.tp + 1) - begin);
  }
  return made;
}

}  // namespace mesh_detail

/// Copies the parts of whole values into the shards' slices.
inline void fill(const std::vector<FlatShard>& shards, const std::vector<at::Tensor>& flats,
                 const std::map<std::string, at::Tensor>& whole) {
  for (std::size_t s = 0; s < shards.size(); ++s) {
    if (!flats[s].defined()) continue;
    for (const FlatShard::Slice& slice : shards[s].slices) {
      const at::Tensor part =
          part_of(*slice.parameter, whole.at(slice.parameter->name)).reshape({-1});
      flats[s].narrow(0, slice.offset, slice.numel).copy_(part.narrow(0, slice.begin, slice.numel));
    }
  }
}

/// Shards as a store makes them: per block one buffer for the parameters cut over tp and one for
/// the others, frozen ones apart, cut over dp_shard. Values are zeros.
inline MeshRank empty_rank(const std::vector<MeshParameter>& parameters, const MeshShape& mesh,
                           int rank, at::ScalarType dtype = at::kFloat) {
  const MeshCoordinates at = coordinates_of(mesh, rank);
  std::vector<std::string> blocks;
  for (const MeshParameter& parameter : parameters) {
    if (blocks.empty() || blocks.back() != parameter.block) blocks.push_back(parameter.block);
  }
  MeshRank out{{}, {{"first_moment", {}}, {"second_moment", {}}}};
  const auto num_blocks = static_cast<std::int64_t>(blocks.size());
  for (std::int64_t b = 0; b < num_blocks; ++b) {
    const bool own = b >= mesh_detail::cut(num_blocks, mesh.pp, at.pp) &&
                     b < mesh_detail::cut(num_blocks, mesh.pp, at.pp + 1);
    // By (tied, trainable, cut): parameters of one buffer.
    std::map<std::tuple<bool, bool, bool>, std::vector<ParameterPtr>> buffers;
    std::map<std::string, int> group_of;
    for (const MeshParameter& parameter : parameters) {
      if (parameter.block != blocks[static_cast<std::size_t>(b)]) continue;
      const bool tied = parameter.on_last_stage && mesh.pp > 1;
      if (!own && !(tied && at.pp == mesh.pp - 1)) continue;
      group_of[parameter.name] = parameter.group;
      buffers[{tied, parameter.trainable, parameter.tp_dim >= 0}].push_back(
          mesh_detail::parameter_of(parameter, mesh, at));
    }
    for (const auto& [kind, members] : buffers) {
      const auto& [tied, trainable, is_cut] = kind;
      const UnitLayout layout = make_unit_layout(
          members, [&](const Parameter& p) { return group_of.at(p.name); }, mesh.dp_shard, 4);
      const at::Tensor own_values = at::zeros({layout.shard_numel()}, dtype);
      const int parts = is_cut ? 1 : mesh.tp;
      const int number = (at.dp_replicate * mesh.sp + at.sp) * parts + (is_cut ? 0 : at.tp);
      const int replicas = mesh.dp_replicate * mesh.sp * parts;
      for (FlatShard& shard : flat_shards(layout, at.dp_shard, blocks[static_cast<std::size_t>(b)],
                                          own_values, at::Tensor())) {
        shard.replica = number + (own ? 0 : replicas);
        shard.num_replicas = replicas * (tied ? 2 : 1);
        for (OptimizerTensors& kind_of_state : out.optimizer) {
          kind_of_state.per_shard.push_back(trainable ? at::zeros_like(shard.values)
                                                      : at::Tensor());
        }
        out.shards.push_back(std::move(shard));
      }
    }
  }
  return out;
}

inline std::vector<at::Tensor> flats_of(const std::vector<FlatShard>& shards) {
  std::vector<at::Tensor> flats;
  for (const FlatShard& shard : shards) flats.push_back(shard.values);
  return flats;
}

/// Every value of every parameter and moment is known: it counts up from `start`.
inline MeshRank filled_rank(const std::vector<MeshParameter>& parameters, const MeshShape& mesh,
                            int rank, double start) {
  MeshRank out = empty_rank(parameters, mesh, rank);
  std::map<std::string, at::Tensor> whole;
  for (const MeshParameter& parameter : parameters)
    whole[parameter.name] = values_of(parameter, start);
  fill(out.shards, flats_of(out.shards), whole);
  for (OptimizerTensors& kind : out.optimizer) {
    for (auto& [name, values] : whole) values = values + 100000;
    fill(out.shards, kind.per_shard, whole);
  }
  return out;
}

/// Whether two ranks hold the same bits.
inline bool equal_ranks(const MeshRank& a, const MeshRank& b) {
  const auto equal = [](const at::Tensor& x, const at::Tensor& y) {
    return x.defined() == y.defined() && (!x.defined() || x.equal(y));
  };
  if (a.shards.size() != b.shards.size()) return false;
  for (std::size_t s = 0; s < a.shards.size(); ++s) {
    if (!equal(a.shards[s].values, b.shards[s].values)) return false;
    for (std::size_t k = 0; k < a.optimizer.size(); ++k) {
      if (!equal(a.optimizer[k].per_shard[s], b.optimizer[k].per_shard[s])) return false;
    }
  }
  return true;
}

}  // namespace gimbal::testing
