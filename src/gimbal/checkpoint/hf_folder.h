// Hugging Face model folders: weights in one or several safetensors files, config, tokenizer files.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gimbal/checkpoint/safetensors.h"

namespace gimbal {

/// The tensors of a folder (model.safetensors, or model.safetensors.index.json with its shards),
/// mapped.
class HfWeights {
 public:
  /// Throws UserError when the folder has no weights (naming what is there and what is expected),
  /// when a shard is missing, or when the index names a tensor that its shard lacks.
  explicit HfWeights(const std::filesystem::path& folder);
  bool contains(const std::string& name) const;
  /// A view of the mapped file, valid while this object lives. Throws UserError naming the folder
  /// and the tensor when it is missing.
  at::Tensor tensor(const std::string& name) const;
  /// In alphabetical order.
  std::vector<std::string> names() const;

 private:
  void open_shards(const std::filesystem::path& index);

  std::filesystem::path folder_;
  std::vector<std::unique_ptr<SafetensorsReader>> files_;
  std::map<std::string, std::size_t> file_of_;
};

/// Finds the tensor of a parameter under its name or an alias and checks the shape. Throws
/// UserError: missing weight (with the nearest name in the folder), wrong shape (both shapes), no
/// floating-point numbers.
at::Tensor find_weight(const HfWeights& weights, const std::string& name,
                       const std::vector<std::string>& aliases,
                       const std::vector<std::int64_t>& shape, const std::string& folder);

/// Gives the values of the i-th tensor when asked; called in order, each once.
using TensorSource = std::function<at::Tensor(std::size_t i)>;

/// Writes weights (split into files of at most `shard_bytes`, a larger tensor alone in its file),
/// config.json, copied from `origin` every tokenizer and processor file and, for a checkpoint's
/// export, the note of its step (export_note.h). Appears under its name only when complete; a
/// folder that is there is replaced. Throws UserError with the path of what cannot be read or
/// written.
void save_hf_folder(const std::filesystem::path& folder, const std::filesystem::path& origin,
                    const std::string& config_json, const std::vector<TensorSpec>& specs,
                    const TensorSource& values, std::int64_t shard_bytes,
                    std::optional<std::int64_t> exported_step = std::nullopt);

/// SHA-256 over the tokenizer files of a model folder, as `gimbal prepare` computes it for the
/// manifest; docs/dataset_format.md says which files and how.
std::string tokenizer_sha256(const std::filesystem::path& folder);

/// The same over the processor files.
std::string processor_sha256(const std::filesystem::path& folder);

}  // namespace gimbal
