// Checkpoints as Hugging Face model folders.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "gimbal/models/model.h"
#include "gimbal/train/build.h"

namespace gimbal {

/// Writes a folder that transformers loads, from a checkpoint of any mesh and without storage for
/// the model: parameter after parameter from the mapped files, in `dtype`. `model`: of the run; its
/// parameters need not be whole. Tokenizer and processor files come from `origin`. Throws UserError
/// for a checkpoint of another model and for what cannot be written. Not collective; one rank of a
/// run that has the checkpoint verified (saved or loaded it) is enough.
void export_checkpoint(const std::filesystem::path& checkpoint, const Model& model,
                       at::ScalarType dtype, const std::filesystem::path& origin,
                       const std::filesystem::path& folder);

struct ExportedRun {
  std::int64_t step = 0;                      // of the checkpoint
  std::optional<std::int64_t> replaced_step;  // of the earlier export that was in the folder
};

/// Reads RUN/recipe.yaml and a checkpoint: the newest complete one of the last stage that has one,
/// or the one that `checkpoint` names when that is not empty: a step ("100") or a folder
/// ("step-00000100") of that stage, or a path to a checkpoint of any of the run's stages. An
/// earlier export in `out` is replaced. Throws UserError when there is no such checkpoint, and for
/// an `out` that holds anything else.
ExportedRun export_run(const std::filesystem::path& run, const std::string& checkpoint,
                       const std::filesystem::path& out);

}  // namespace gimbal
