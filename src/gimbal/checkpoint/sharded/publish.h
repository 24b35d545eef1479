// The last steps of a save: the index over all ranks' files, state.json, and the rename.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "gimbal/base/file.h"
#include "gimbal/checkpoint/sharded/rank_file.h"
#include "gimbal/checkpoint/training_state.h"

namespace gimbal {

/// RUN/checkpoints/step-00000100.
std::filesystem::path checkpoint_path(const std::filesystem::path& run_folder, std::uint64_t step);

/// Where its files are while it is unfinished.
std::filesystem::path unfinished_path(const std::filesystem::path& checkpoint);

/// Gives a checkpoint that the run does not use, and has gone back past, the name
/// "step-00000100.unused" (or ".unused-2"), with a warning that has the reason. It is not removed:
/// it may be good again when a disk is.
void set_aside(const std::filesystem::path& checkpoint, const std::string& reason);

/// Makes `folder`, which holds all of `files` (in rank order), a complete checkpoint, and visible.
/// A good checkpoint of the same step is replaced, another is set aside.
/// Throws UserError with the path of what cannot be written, and InternalError when the files
/// together do not make up every tensor.
void publish_checkpoint(AtomicFolder& folder, const TrainingState& state, const std::string& mesh,
                        const std::vector<RankFile>& files);

}  // namespace gimbal
