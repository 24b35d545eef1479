// How a run is spread over its processes: mesh, stages, schedule. Decided without a message.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "gimbal/arch/model_desc.h"
#include "gimbal/config/mesh_shape.h"
#include "gimbal/config/recipe.h"
#include "gimbal/parallel/store.h"
#include "gimbal/schedule/schedule.h"
#include "gimbal/train/tape/tape.h"

namespace gimbal {

struct RunLayout {
  MeshShape mesh;
  PipelineKind schedule = PipelineKind::kOneFOneB;
  int stages_per_rank = 1;
  std::vector<BlockRange> stages;  // [pp * stages_per_rank], in the order of the model
  StorePolicy policy = StorePolicy::kKeepWeights;
  bool prefetch = true;

  /// The stages that a pipeline rank runs, ascending.
  std::vector<BlockRange> stages_of(int pp_rank) const;
  /// Which of the blocks they have.
  std::vector<bool> blocks_of(int pp_rank, std::size_t num_blocks) const;
  /// The pipeline rank that runs the block.
  int rank_of_block(std::size_t block) const;
  /// The schedule runs weight gradients on their own.
  bool splits_backward() const {
    return stages.size() > 1 && schedule == PipelineKind::kZeroBubble;
  }
  /// Whether ranks with different packs take part in the same collectives in each micro-batch, so
  /// that all need equally many.
  bool needs_equal_counts() const { return mesh.dp_shard > 1 || mesh.pp > 1; }
  /// The next number of micro-batches that the schedule has.
  std::size_t padded_micro_batches(std::size_t count) const;
  /// The schedule of a step.
  Schedule make(std::size_t micro_batches) const;
};

/// What stages of equal work are cut by: a mean micro-batch, and what its blocks do.
struct LayoutWork {
  WorkSize mean;
  std::vector<bool> frozen;       // per block
  std::vector<Recompute> levels;  // per block
};

/// The layout that the recipe asks for. Throws UserError for axes that do not make `world_size`
/// processes, heads that tp and sp cannot divide, an unknown block in stage_starts, or more stages
/// than blocks. `model_folder`: for messages.
RunLayout make_run_layout(const ParallelConfig& config, const ModelDesc& model,
                          const LayoutWork& work, int world_size, const std::string& model_folder);

/// A sentence for each choice of `parallel` that the mesh leaves without effect, naming the key and
/// the axis that is 1.
std::vector<std::string> layout_notes(const ParallelConfig& config, const MeshShape& mesh);

}  // namespace gimbal
