// Training checkpoints: RUN/checkpoints/step-00000100/ with one safetensors file per rank, an index
// over all of them and state.json. Tensors are found by name and place in the whole tensor, so that
// any number of ranks, on any mesh, can go on. docs/checkpoints.md describes the files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

#include "gimbal/checkpoint/sharded/shard_pieces.h"
#include "gimbal/checkpoint/training_state.h"
#include "gimbal/parallel/comm.h"
#include "gimbal/parallel/store.h"

namespace gimbal {

/// Writes RUN/checkpoints/step-<state.step> from one process that holds all parameters whole, and
/// returns it. It becomes visible only when complete and on the disk; an older checkpoint is never
/// touched. `mesh`: what is noted as its writer. Throws UserError with the path (full disk, no
/// permission). CheckpointWriter is for all ranks of a run.
std::filesystem::path save_checkpoint(const std::filesystem::path& run_folder,
                                      const TrainingState& state,
                                      const std::vector<FlatShard>& shards,
                                      const std::vector<OptimizerTensors>& optimizer,
                                      const std::string& mesh = "1 device");

/// Checks that the checkpoint is complete and undamaged (sizes and SHA-256 of the files, pieces
/// that make up every tensor) and returns its state. Throws UserError that names the file and what
/// is wrong with it. Of `parts` processes that share the work, this is number `part`.
TrainingState verify_checkpoint(const std::filesystem::path& checkpoint, int part = 0,
                                int parts = 1);

/// Whether loading verifies first. Not needed for what find_latest_checkpoint has just returned.
enum class VerifyFirst { kYes, kNo };

/// Collective over all ranks of a run, whose shards together are the whole model; each reads what
/// it needs. Fills the shards' values and the optimizer tensors. Call
/// ParameterStore::values_changed() afterwards. Throws UserError on all ranks for a damaged
/// checkpoint, a parameter that is missing, too many, or of another shape or dtype; nothing is
/// changed on any rank in that case.
TrainingState load_checkpoint(const std::filesystem::path& checkpoint,
                              const std::vector<FlatShard>& shards,
                              const std::vector<OptimizerTensors>& optimizer, Comm& world,
                              VerifyFirst verify = VerifyFirst::kYes);

/// As load_checkpoint, but leaves the optimizer alone: for a stage that goes on from the weights of
/// the one before with other frozen parts.
TrainingState load_checkpoint_weights(const std::filesystem::path& checkpoint,
                                      const std::vector<FlatShard>& shards, Comm& world,
                                      VerifyFirst verify = VerifyFirst::kYes);

/// The same for one process that holds the whole model.
TrainingState load_checkpoint(const std::filesystem::path& checkpoint,
                              const std::vector<FlatShard>& shards,
                              const std::vector<OptimizerTensors>& optimizer);
TrainingState load_checkpoint_weights(const std::filesystem::path& checkpoint,
                                      const std::vector<FlatShard>& shards);

/// The checkpoint with the most steps that verifies. Incomplete and damaged ones are skipped with a
/// warning that names the reason. Throws UserError when one cannot be read now (a failing disk, no
/// permission), because it may be good.
std::optional<std::filesystem::path> find_latest_checkpoint(
    const std::filesystem::path& run_folder);

/// Collective: all ranks share the verification and return the same checkpoint. Rank 0 warns.
std::optional<std::filesystem::path> find_latest_checkpoint(const std::filesystem::path& run_folder,
                                                            Comm& world);

/// Removes all but the last `keep_last` complete checkpoints up to `current_step`, and what killed
/// processes left unfinished. Those of later steps, which the run has gone back past, are renamed
/// to "step-00000100.unused" with a warning. Checkpoints up to current_step whose step is a
/// multiple of `keep_every` stay (0: none). Not while another process saves.
void prune_checkpoints(const std::filesystem::path& run_folder, std::size_t keep_last,
                       std::uint64_t current_step, std::uint64_t keep_every = 0);

/// Removes what killed processes have left unfinished, and puts back a checkpoint that one was
/// replacing. Not while another process saves.
void remove_unfinished_checkpoints(const std::filesystem::path& run_folder);

}  // namespace gimbal
