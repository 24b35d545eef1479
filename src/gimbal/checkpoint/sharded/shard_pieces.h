// What this rank holds of a model's parameters and of their optimizer state, by name.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "gimbal/checkpoint/sharded/tensor_pieces.h"
#include "gimbal/parallel/store.h"

namespace gimbal {

/// One kind of optimizer state, such as "first_moment": per shard a tensor laid out like
/// shard.values; undefined for shards that have none (frozen ones). Loading writes into the
/// tensors.
struct OptimizerTensors {
  std::string name;
  std::vector<at::Tensor> per_shard;
};

/// A piece of a tensor and its values in this rank's memory.
struct PlacedPiece {
  std::string name;                 // of the tensor in checkpoints
  std::vector<std::int64_t> shape;  // of the whole tensor
  TensorPiece piece;
  at::Tensor values;   // [numel], a view of the shard
  bool writes = true;  // of the ranks that hold these values, this one writes checkpoints
};

/// Replicas take turns from block to block, so that all of them write about as much.
std::vector<PlacedPiece> parameter_pieces(const std::vector<FlatShard>& shards);

/// Named "<parameter>.<kind>".
std::vector<PlacedPiece> optimizer_pieces(const std::vector<FlatShard>& shards,
                                          const std::vector<OptimizerTensors>& optimizer);

/// Whether all parameters in the shards are whole.
bool holds_whole_parameters(const std::vector<FlatShard>& shards);

}  // namespace gimbal
