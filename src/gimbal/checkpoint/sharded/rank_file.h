// The file of a checkpoint that one rank writes, and the note that says it is complete.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "gimbal/base/json.h"
#include "gimbal/checkpoint/sharded/checkpoint_index.h"
#include "gimbal/checkpoint/sharded/shard_pieces.h"

namespace gimbal {

struct RankFile {
  std::string file;  // "rank-00003.safetensors"
  std::uint64_t bytes = 0;
  std::string sha256;
  CheckpointIndex index;  // of this file alone
};

/// What one rank saves.
struct RankPieces {
  std::vector<PlacedPiece> parameters;
  std::vector<PlacedPiece> optimizer;
};

/// The pieces that this rank writes; views of the shards.
RankPieces pieces_to_write(const std::vector<FlatShard>& shards,
                           const std::vector<OptimizerTensors>& optimizer);

/// Writes and syncs the file of `rank` into `folder`; hashes it on the way. Throws UserError with
/// the path, and InterruptedSave soon after `stop` is set.
RankFile write_rank_file(const std::filesystem::path& folder, int rank, const RankPieces& pieces,
                         const std::atomic<bool>& stop);

/// The process ends while it saves.
struct InterruptedSave : std::runtime_error {
  InterruptedSave() : std::runtime_error("the process ended before the checkpoint was complete") {}
};

/// "rank-00003.safetensors" in `folder`.
std::filesystem::path rank_file_path(const std::filesystem::path& folder, int rank);
/// "rank-00003.writing" in `folder`: see WritingSign.
std::filesystem::path writing_note_path(const std::filesystem::path& folder, int rank);
/// "rank-00003.done.json" in `folder`: there when the rank's file is on the disk.
std::filesystem::path done_note_path(const std::filesystem::path& folder, int rank);
void write_done_note(const std::filesystem::path& folder, int rank, const RankFile& file);
RankFile read_done_note(const std::filesystem::path& folder, int rank);

}  // namespace gimbal
