// Saves the checkpoints of a run while training goes on.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gimbal/checkpoint/sharded/host_copies.h"
#include "gimbal/checkpoint/sharded/shard_pieces.h"
#include "gimbal/checkpoint/training_state.h"
#include "gimbal/config/mesh_shape.h"
#include "gimbal/parallel/comm.h"
#include "gimbal/parallel/store.h"

namespace gimbal {

struct CheckpointRules {
  std::size_t keep_last = 2;     // complete ones
  std::uint64_t keep_every = 0;  // steps: those of its multiples are kept, too; 0: none
  bool background = true;        // write while the caller goes on
  /// How long rank 0, once it has written its own file, waits for those of ranks that give no sign
  /// of writing. As long as one does, its file may take any time.
  std::chrono::milliseconds timeout = std::chrono::minutes(10);
  /// Called on rank 0 before a checkpoint becomes visible, by the thread that writes: puts on the
  /// disk what a run that goes on from it counts on. What it throws fails the save.
  std::function<void()> before_publishing;
  /// Called on rank 0 as soon as the checkpoint of a step is visible, by the thread that writes.
  std::function<void(std::uint64_t step)> after_publishing;
};

/// Each rank writes the pieces that it answers for, in a thread of its own that does not
/// communicate; the thread of rank 0 waits for everybody's file and publishes the checkpoint. A
/// process that is killed at any moment leaves a complete checkpoint or none.
class CheckpointWriter {
 public:
  /// Collective. Removes what killed runs have left unfinished. `world`, which must outlive the
  /// writer, has the ranks of `mesh`.
  CheckpointWriter(std::filesystem::path run_folder, Comm& world, const MeshShape& mesh,
                   const CheckpointRules& rules);
  /// Gives a save under way two seconds to become complete; without that it leaves no checkpoint.
  ~CheckpointWriter();
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;

  /// Collective; after finish() of the save before. Returns when this rank's values are copied:
  /// what is written is their state at the call. Without `background` it returns when the
  /// checkpoint is complete.
  void save(const TrainingState& state, const std::vector<FlatShard>& shards,
            const std::vector<OptimizerTensors>& optimizer);
  /// Collective. Waits until the last save's checkpoint is visible and old ones are removed,
  /// however long that takes: no rank is taken for a lost one because its disk is slow. When a rank
  /// has failed it throws on all ranks, with the path and the reason.
  void finish();
  /// Whether the save under way has failed on this rank; finish(), once all ranks call it, then
  /// throws the cause on all. Cheap, and needs no other rank.
  bool failed() const;
  /// The last step whose checkpoint this rank knows to be complete, of those saved here. Needs no
  /// other rank.
  std::optional<std::uint64_t> saved_step() const;

  /// Whether this rank alone could save: it holds all parameters of all stages, whole.
  bool can_save_alone(const std::vector<FlatShard>& shards) const;
  /// Saves without the other ranks, which may be gone: not collective, only where can_save_alone().
  /// Does nothing when a save of this step under way becomes complete within two seconds.
  void save_alone(const TrainingState& state, const std::vector<FlatShard>& shards,
                  const std::vector<OptimizerTensors>& optimizer);

 private:
  class Job;
  template <typename Phase>
  void finish_phase(const Phase& phase, const std::string& name);
  void leave_job();

  std::filesystem::path run_folder_;
  Comm& world_;
  MeshShape mesh_;
  CheckpointRules rules_;
  HostCopies copies_;
  std::unique_ptr<Job> job_;  // the save under way
  std::optional<std::uint64_t> saved_step_;
};

}  // namespace gimbal
