// Reads the tensors of a checkpoint, whatever mesh wrote it. Files are mapped: only what is copied
// is read.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "gimbal/checkpoint/safetensors.h"
#include "gimbal/checkpoint/sharded/checkpoint_index.h"
#include "gimbal/checkpoint/training_state.h"

namespace gimbal {

/// Some pieces of a saved tensor, mapped; valid while the reader lives.
class MappedPieces {
 public:
  /// Copies the values of `wanted` into `out`, flat and of the saved dtype, on any device.
  void copy(const TensorPiece& wanted, const at::Tensor& out) const;

 private:
  friend class CheckpointReader;
  explicit MappedPieces(PieceMap map) : map_(std::move(map)) {}

  PieceMap map_;
  std::vector<at::Tensor> pieces_;  // undefined where nothing is wanted of one
};

class CheckpointReader {
 public:
  /// Reads state.json and the index (of version 1: the headers of its files), and checks sizes.
  /// Other damage is found by verify_checkpoint. Throws UserError naming the file.
  explicit CheckpointReader(const std::filesystem::path& checkpoint);

  const std::filesystem::path& path() const { return path_; }
  const TrainingState& state() const { return state_; }
  /// The mesh that wrote it; empty for version 1.
  const std::string& mesh() const { return mesh_; }
  const CheckpointIndex& index() const { return index_; }

  /// Of the parameters, in alphabetical order.
  std::vector<std::string> names() const;
  /// A whole parameter: a view of the mapped file when it is in one piece, else put together.
  /// Throws UserError when there is none of that name, or pieces are missing.
  at::Tensor tensor(const std::string& name) const;

  /// What `wanted` needs of a tensor of index(). Throws UserError, naming the tensor, when its
  /// pieces are not complete or a file does not hold what the index says.
  MappedPieces open(const std::string& name, const SavedTensor& saved,
                    const TensorPiece& wanted) const;

 private:
  void index_version_1(const char* file, SavedTensors& tensors) const;
  const SafetensorsReader& file(const std::string& name) const;

  std::filesystem::path path_;
  TrainingState state_;
  std::string mesh_;
  CheckpointIndex index_;
  mutable std::map<std::string, std::unique_ptr<SafetensorsReader>> files_;  // opened when needed
};

}  // namespace gimbal
