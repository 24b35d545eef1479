// Checkpoints of several ranks, made and read for the Python tests.
#pragma once

#include <filesystem>

namespace gimbal {

/// Saves the tensors of a safetensors file as a run's checkpoint of step 3 on a mesh of
/// dp_replicate x dp_shard x tp ranks (threads). Tensors whose names contain "rows" or "columns"
/// are cut over tp along dim 0 or 1. "first_moment" of a parameter is its values times 2.
void save_sharded(const std::filesystem::path& file, const std::filesystem::path& run,
                  int dp_replicate, int dp_shard, int tp);

/// Writes all parameters of a checkpoint, whole, into one safetensors file.
void assemble(const std::filesystem::path& checkpoint, const std::filesystem::path& out);

}  // namespace gimbal
