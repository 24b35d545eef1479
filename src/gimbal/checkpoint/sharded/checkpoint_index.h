// What a checkpoint's files hold: of every tensor its shape, dtype and pieces.
#pragma once

#include <c10/core/ScalarType.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "gimbal/base/json.h"
#include "gimbal/checkpoint/sharded/tensor_pieces.h"

namespace gimbal {

/// In `file` there is a tensor with the name of the whole one, that holds the piece's values.
struct SavedPiece {
  TensorPiece piece;
  std::string file;
};

struct SavedTensor {
  std::vector<std::int64_t> shape;
  at::ScalarType dtype = at::kFloat;
  std::vector<SavedPiece> pieces;

  std::int64_t num_bytes() const;
  /// Throws UserError that begins with `where` unless the pieces make up the tensor.
  PieceMap piece_map(const std::string& where) const;
};

using SavedTensors = std::map<std::string, SavedTensor>;

struct CheckpointIndex {
  SavedTensors parameters;
  SavedTensors optimizer;  // "<parameter>.first_moment"
};

/// Adds the pieces of a rank's file.
void add_pieces(SavedTensors& all, const SavedTensors& of_rank);

Json to_json(const CheckpointIndex& index);
/// Throws UserError that begins with `where` and names tensor and key.
CheckpointIndex checkpoint_index_from_json(const Json& json, const std::string& where);

}  // namespace gimbal
