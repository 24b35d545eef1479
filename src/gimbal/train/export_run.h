// A run folder's newest checkpoint as a Hugging Face model folder.
#pragma once

#include <cstdint>
#include <filesystem>

#include "gimbal/train/build.h"

namespace gimbal {

/// Reads RUN/recipe.yaml and the newest complete checkpoint (of the last stage that has one).
/// Returns the checkpoint's step. Throws UserError when there is none.
std::int64_t export_run(const std::filesystem::path& run, const std::filesystem::path& out,
                        Runtime& runtime);

}  // namespace gimbal
