// Training checkpoints: RUN/checkpoints/step-00000100/ with model.safetensors,
// optimizer.safetensors and state.json. They hold parameters by name, not flat shards, so that any
// number of ranks can go on from them. docs/checkpoints.md describes the files.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "gimbal/base/json.h"
#include "gimbal/parallel/store.h"

namespace gimbal {

/// Where a run stands after `step` steps. Plain numbers: the data order is a function of seed,
/// epoch and step.
struct TrainingState {
  std::uint64_t step = 0;
  std::uint64_t epoch = 0;
  std::uint64_t step_in_epoch = 0;  // of the next step
  std::uint64_t seed = 0;
  std::int64_t optimizer_steps = 0;  // fewer than `step` when steps were skipped
  std::uint64_t samples = 0;         // trained on so far
  std::uint64_t tokens = 0;
  std::uint64_t loss_tokens = 0;
  std::uint64_t elapsed_milliseconds = 0;  // in steps so far
  std::string stage;                       // of the recipe
  std::string recipe_fingerprint;
  std::string dataset_fingerprint;

  bool operator==(const TrainingState&) const = default;
};

Json to_json(const TrainingState& state);
/// Throws UserError naming `where` and the key.
TrainingState training_state_from_json(const Json& json, const std::string& where);

/// One kind of optimizer state, such as "first_moment": per shard a tensor laid out like
/// shard.values; undefined for shards that have none (frozen ones). Loading writes into the
/// tensors.
struct OptimizerTensors {
  std::string name;
  std::vector<at::Tensor> per_shard;
};

/// Writes RUN/checkpoints/step-<state.step> and returns it. It becomes visible only when complete
/// and on the disk; an older checkpoint is never touched. For a replicated store: to call on one
/// rank. Throws UserError with the path (full disk, no permission).
std::filesystem::path save_checkpoint(const std::filesystem::path& run_folder,
                                      const TrainingState& state,
                                      const std::vector<FlatShard>& shards,
                                      const std::vector<OptimizerTensors>& optimizer);

/// Checks that the checkpoint is complete and undamaged (SHA-256 of every file) and returns its
/// state. Throws UserError that names the file and what is wrong with it.
TrainingState verify_checkpoint(const std::filesystem::path& checkpoint);

/// Verifies, then fills the shards' values and the optimizer tensors. Call
/// ParameterStore::values_changed() afterwards. Throws UserError for a damaged checkpoint, a
/// parameter that is missing, too many, or of another shape or dtype; nothing is changed in that
/// case.
TrainingState load_checkpoint(const std::filesystem::path& checkpoint,
                              const std::vector<FlatShard>& shards,
                              const std::vector<OptimizerTensors>& optimizer);

/// As load_checkpoint, but leaves the optimizer alone: for export, and for a stage that goes on
/// from the weights of the one before with other frozen parts.
TrainingState load_checkpoint_weights(const std::filesystem::path& checkpoint,
                                      const std::vector<FlatShard>& shards);

/// The checkpoint with the most steps that verifies. Incomplete and damaged ones are skipped with a
/// warning that names the reason.
std::optional<std::filesystem::path> find_latest_checkpoint(
    const std::filesystem::path& run_folder);

/// Removes all but the last `keep_last` complete checkpoints up to `current_step`, those of later
/// steps (damaged ones that the run has gone back past), and what killed processes left unfinished.
/// Not while another process saves.
void prune_checkpoints(const std::filesystem::path& run_folder, std::size_t keep_last,
                       std::uint64_t current_step);

}  // namespace gimbal
