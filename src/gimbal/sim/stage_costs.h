// Blocks added up to stages: what each stage of a layout costs for a micro-batch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "gimbal/cost/cost_model.h"
#include "gimbal/sim/pipeline.h"
#include "gimbal/sim/step.h"

namespace gimbal {

/// Costs of the stages first_stage .. end_stage - 1. Blocks that cost the same (equal class, sizes,
/// gradients and recompute level) are evaluated once per micro-batch.
class StageCosts {
 public:
  /// Sums over all blocks, before gathers are added.
  struct Sums {
    Seconds compute = 0;        // forward and backward, less communication
    Seconds recompute = 0;      // less communication
    Seconds communication = 0;  // inside blocks
  };

  StageCosts(const CostModel& costs, const StageLayout& layout, std::size_t first_stage,
             std::size_t end_stage);

  std::size_t num_stages() const { return stage_first_.size() - 1; }
  /// Evaluates the blocks for a micro-batch; the functions below are about the last one evaluated.
  void evaluate(const WorkSize& work);
  /// `stage` counts from first_stage here and below.
  StageWork stage_work(std::size_t stage) const;
  Sums sums() const;
  /// The earliest start of a forward that ends as soon as its blocks' parameters allow, when they
  /// are gathered one after another from `gather_clock` on; adds the gathers to the clock.
  Seconds earliest_forward(std::size_t stage, Seconds& gather_clock) const;
  /// Per block of the stage, in order: the share of the stage's last backward (kBackwardWeight when
  /// split) that has passed when the block's gradients are complete.
  std::vector<double> finished_shares(std::size_t stage, bool split) const;

 private:
  struct Group {
    std::size_t block = 0;  // one of them
    Recompute level = Recompute::kKeep;
    double count = 0;
    bool backward_gathers = false;  // the block has a backward
    bool input_gathers = false;     // ... and one before kBackwardWeight
    Seconds gather = 0;
    Seconds scatter = 0;  // reduction of its gradients after each backward, under kReshard
    Seconds forward = 0, backward = 0, backward_input = 0, backward_weight = 0;
    Seconds recompute = 0;
    Seconds communication = 0,
            recompute_communication = 0;  // of forward and backward; of recompute
    Bytes saved = 0, forward_workspace = 0, backward_workspace = 0;
  };
  /// Blocks of a stage that belong to one group.
  struct Part {
    std::size_t group = 0;
    double count = 0;
  };

  std::size_t group_of(std::size_t block, Recompute level);
  void add_gathered_times(std::size_t stage, StageWork& sum) const;

  const CostModel& costs_;
  WorkSize work_;
  bool reshard_;
  std::vector<Group> groups_;
  std::vector<std::size_t> block_group_;  // per block, stage by stage
  std::vector<std::size_t> stage_first_;  // into block_group_ [num_stages + 1]
  std::vector<std::vector<Part>> parts_;  // per stage
  std::vector<std::size_t> last_block_;   // per stage, index in the model
};

}  // namespace gimbal
