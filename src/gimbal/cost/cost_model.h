// What a block, a message or a stage's state costs on a mesh: the profile applied to a model.
#pragma once

#include <array>
#include <cstddef>
#include <vector>

#include "gimbal/arch/model_desc.h"
#include "gimbal/config/mesh_shape.h"
#include "gimbal/cost/profile_table.h"

namespace gimbal {

/// Bytes per parameter that training holds.
struct StateBytes {
  double master = 4;    // the values that the optimizer updates; sharded over dp_shard
  double compute = 2;   // the copy that blocks use; 0 when it is the master itself
  double gradient = 4;  // sharded; whole besides until it is reduced
  double moments = 8;   // AdamW; sharded over dp_shard
};

/// Where parameters are when no block uses them.
enum class ShardPolicy {
  /// FSDP (ZeRO-3): a block's compute copy is gathered before each use and freed after it; its
  /// gradients are reduced to shards in each backward.
  kReshard,
  /// ZeRO-1: gathered once per step and kept; gradients are added up whole and reduced once, in the
  /// last backward.
  kKeepWeights
};

/// Buffers of messages that a rank has for each neighbour in the pipeline: one that is received
/// ahead and two that are being sent (parallel/pipeline).
inline constexpr int kMessagesPerNeighbour = 3;
/// Bytes of all of them. `before`, `after`: the largest message between one of the rank's stages
/// and the stage before it or after it; 0 where there is none.
Bytes message_buffer_bytes(Bytes before, Bytes after, int num_ranks);

struct CostSettings {
  MeshShape mesh;
  std::vector<bool> frozen;  // per block; empty: all are trained
  StateBytes state;
  ShardPolicy shard_policy = ShardPolicy::kKeepWeights;
  double tensor_parallel_efficiency = 0.95;  // of products that tp has made smaller, per doubling
};

/// Costs of `model` on the mesh. Pure; evaluation of a block takes nanoseconds. Per-device values:
/// with tp, sp and ep the rank's share. Work is that of a whole micro-batch (one pack).
///
/// Neighbouring devices are first in tp, then sp, dp_shard, dp_replicate and pp; ep lies in
/// dp_shard x sp from its start. tp divides most parameters (rank_dense_parameters) and, with
/// activations sharded over rows between the products (Korthikanti et al. 2022), all work, except
/// that ranks have whole heads; sp divides rows (Ulysses, Jacobs et al. 2023). What both leave of
/// activations is rank_saved_values. The equations are in docs/planning_model.md.
class CostModel {
 public:
  /// Throws UserError when the profile lacks a class of the model's blocks or a link that the mesh
  /// needs, or was made for a model of other sizes.
  CostModel(ModelDesc model, ProfileTable profile, CostSettings settings);
  CostModel(const CostModel&) = delete;
  CostModel& operator=(const CostModel&) = delete;

  std::size_t num_blocks() const { return model_.blocks.size(); }
  const ModelDesc& model() const { return model_; }
  const ProfileTable& profile() const { return profile_; }
  const CostSettings& settings() const { return settings_; }
  /// Recompute levels worth considering for the block: keep alone when it has no backward. Costs of
  /// a level that the block does not have are those of full, or of keep where there is no full.
  const std::vector<Recompute>& levels(std::size_t block) const;
  const GradientNeed& need(std::size_t block) const { return needs_[block]; }

  // Seconds of one micro-batch, with the tensor, sequence and expert parallel messages that the
  // block waits for. Blocks without backward: 0.
  Seconds forward(std::size_t block, const WorkSize& work) const;
  /// Input and weight gradients, as far as the block needs them, without recompute.
  Seconds backward(std::size_t block, const WorkSize& work) const;
  /// The two halves of backward; their sum is backward().
  Seconds backward_input(std::size_t block, const WorkSize& work) const;
  Seconds backward_weight(std::size_t block, const WorkSize& work) const;
  Seconds recompute(std::size_t block, const WorkSize& work, Recompute level) const;
  /// Of forward, backward and recompute: the part that is communication inside the block.
  Seconds forward_communication(std::size_t block, const WorkSize& work) const;
  Seconds backward_communication(std::size_t block, const WorkSize& work) const;
  Seconds recompute_communication(std::size_t block, const WorkSize& work, Recompute level) const;

  // Bytes of one micro-batch.
  Bytes saved(std::size_t block, const WorkSize& work, Recompute level) const;
  Bytes forward_workspace(std::size_t block, const WorkSize& work) const;
  Bytes backward_workspace(std::size_t block, const WorkSize& work, Recompute level) const;

  /// Parameters, gradients and optimizer state that a rank of the block's stage holds during a step
  /// (sim/rank_state.h): its shards, and the compute copy unless it is freed between uses.
  Bytes state_bytes(std::size_t block) const;
  /// The gathered compute copy, held for a moment to use the block; 0 when none is made or it is
  /// kept.
  Bytes gathered_bytes(std::size_t block) const;
  /// The whole gradient until it is reduced to the rank's shard; 0 when it is not sharded.
  Bytes whole_gradient_bytes(std::size_t block) const;

  /// Bytes that a pipeline cut after the block sends for one micro-batch (gradients: the same).
  Bytes cut_bytes(std::size_t block, const WorkSize& work) const;
  /// Seconds of one such message; 0 for one stage.
  Seconds send_seconds(Bytes bytes) const;
  /// The link that pipeline messages take: the slowest between two stages.
  const LinkCost& pipeline_link() const { return pipeline_link_; }
  /// All-gather of the block's compute copy over dp_shard; 0 for dp_shard 1, and for frozen blocks
  /// whose copy is kept.
  Seconds gather_seconds(std::size_t block) const;
  /// Reduction of the block's gradients over dp_shard and dp_replicate; 0 for one rank or a frozen
  /// block.
  Seconds reduce_seconds(std::size_t block) const;
  /// Optimizer update of the rank's share of the block.
  Seconds optimizer_seconds(std::size_t block) const;

 private:
  using LevelLines = std::array<CostLine, kNumRecomputeLevels>;
  // Costs of one block on this mesh, as functions of its rows and pairs.
  struct BlockLines {
    double WorkSize::*rows = nullptr;
    double WorkSize::*pairs = nullptr;  // none: no rows attend
    // Times contain the messages, which are also given alone.
    CostLine forward, forward_messages;
    CostLine backward_input, backward_weight, backward_messages;
    LevelLines recompute, recompute_messages;
    LevelLines saved, backward_workspace;
    CostLine forward_workspace;
    WorkSize cut_bytes_per_row;  // by kind of row
  };
  // What is stored, gathered and reduced for a block, whatever the work.
  struct BlockState {
    Bytes state = 0, gathered = 0, whole_gradient = 0;
    Seconds gather = 0, reduce = 0, optimizer = 0;
  };
  // Parameters of a block that are sharded alike.
  struct ParameterGroup {
    double parameters = 0;  // of this rank, before dp sharding
    int shards = 1;         // ranks that share them
    int stride = 1;         // of these ranks
    bool copied_over_sp = false;
  };

  LinkCost link(int ranks, int stride, const char* axis) const;
  BlockLines block_lines(std::size_t block) const;
  void add_messages(const BlockDesc& desc, const GradientNeed& need, BlockLines& lines) const;
  void scale_bytes(const BlockDesc& desc, const BlockCost& cost, bool has_backward,
                   BlockLines& lines) const;
  std::vector<ParameterGroup> parameter_groups(const BlockDesc& desc) const;
  BlockState block_state(std::size_t block) const;
  double at(const BlockLines& lines, const CostLine& line, const WorkSize& work) const;

  ModelDesc model_;
  ProfileTable profile_;
  CostSettings settings_;
  std::vector<GradientNeed> needs_;
  std::vector<std::vector<Recompute>> levels_;
  std::vector<BlockLines> lines_;
  std::vector<BlockState> states_;
  LinkCost pipeline_link_;
};

}  // namespace gimbal
