// state.json of a checkpoint: where the run stands, and which files belong to it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

#include "gimbal/checkpoint/training_state.h"

namespace gimbal {

/// Of checkpoints in version 2; version 1 has the other two.
constexpr char kIndexFile[] = "index.json";
constexpr char kModelFile[] = "model.safetensors";
constexpr char kOptimizerFile[] = "optimizer.safetensors";

struct CheckpointFile {
  std::uint64_t bytes = 0;
  std::string sha256;
};

struct StateFile {
  int version = 2;
  TrainingState state;
  std::string mesh;  // that wrote it, such as "dp_shard 4"; empty in version 1
  std::map<std::string, CheckpointFile> files;
};

/// Writes and syncs `folder`/state.json.
void write_state_file(const std::filesystem::path& folder, const StateFile& file);

/// Throws UserError for a missing, damaged or foreign file, naming it; like the two below,
/// FileError for one that is there and cannot be read now.
StateFile read_state_file(const std::filesystem::path& checkpoint);

/// Throws UserError, naming the file, unless it is there with the right size.
void check_file_size(const std::filesystem::path& path, const CheckpointFile& expected);

/// The same, and reads the file and compares its checksum.
void check_file(const std::filesystem::path& path, const CheckpointFile& expected);

}  // namespace gimbal
