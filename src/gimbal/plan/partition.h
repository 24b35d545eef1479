// Cuts and recompute together, exactly: the least step time that the memory allows.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "gimbal/plan/cut_problem.h"

namespace gimbal {

/// One way to run a block. Whole numbers (times in any unit), so that sums do not depend on their
/// order; costs of a whole step must stay below 2^60.
struct PartitionOption {
  std::int64_t time = 0;       // forward + backward + recompute of a micro-batch
  std::int64_t saved = 0;      // bytes per micro-batch in flight
  std::int64_t workspace = 0;  // bytes for a moment
};

struct PartitionBlock {
  std::vector<PartitionOption> options;  // at least one
  std::int64_t state = 0;                // bytes held all the time
  // Bytes held by turns: of the blocks of a stage the two largest are there at a time.
  std::int64_t gathered = 0;   // compute copies
  std::int64_t gradient = 0;   // whole gradients
  std::int64_t cut_time = 0;   // that a cut after the block adds to both sides
  std::int64_t cut_bytes = 0;  // buffers that a cut after the block adds to both sides
  int kind = 0;  // blocks of equal kind have equal options (not checked), which makes it fast
};

struct PartitionProblem {
  std::vector<PartitionBlock> blocks;
  int num_stages = 1;
  std::vector<int> in_flight;  // per stage, at least 1
  std::int64_t capacity = 0;   // bytes
  std::int64_t micro_batches = 1;
  /// The embedding whose weight the last block uses, a tied head. A stage that has the last block
  /// without it holds a copy: its state, gathered and gradient count there too.
  std::size_t tied_block = kNothingTied;
  /// In a stage that has both, its gradient is there beside the two largest of the others.
  bool tied_gradient_waits = false;

  static constexpr std::size_t kNothingTied = std::numeric_limits<std::size_t>::max();
};

struct Partition {
  std::vector<std::size_t> stage_begin;  // [num_stages + 1]
  std::vector<std::size_t> option;       // per block
  std::int64_t cost = 0;                 // as below
};

/// Minimises  sum_s t_s + (micro_batches - 1) * max_s t_s  over all cuts into non-empty stages and
/// all options, where t_s is the time of the stage's blocks plus cut_time at each of its cuts, and
///   state + gathered + gradient + cut_bytes + in_flight[s] * saved + max(workspace) <= capacity
/// in each stage (gathered and gradient: of its two largest, state: with a tied copy).
/// This is the time of a 1F1B (or GPipe, ZB-H1) step whose micro-batches are equal and whose
/// largest stage is never starved: Narayanan et al. 2021, with unlike stages. Dynamic programming
/// over (stage, block) that keeps the Pareto front of (sum, max); per stage a multiple-choice
/// knapsack over the fronts of (time, saved); blocks with equal options share theirs, which makes
/// it fast. Nothing: no choice fits.
std::optional<Partition> solve_partition(const PartitionProblem& problem);

/// The best options for given cuts: each stage by itself.
std::optional<Partition> solve_options(const PartitionProblem& problem,
                                       const std::vector<std::size_t>& stage_begin);

/// As solve_partition, by trying everything: for tests, exponential.
std::optional<Partition> solve_partition_brute_force(const PartitionProblem& problem);

/// The least capacity for which a partition exists; for given cuts.
std::int64_t least_capacity(const PartitionProblem& problem);
std::int64_t least_capacity(const PartitionProblem& problem,
                            const std::vector<std::size_t>& stage_begin);

/// kFullOnly: every block has its last level only, as when recompute is not planned.
enum class LevelChoice { kAll, kFullOnly };

/// Options in the order of CostModel::levels. A layout of them fits exactly when `fits` says so,
/// but for bytes that are rounded up to whole ones.
PartitionProblem partition_problem(const CutProblem& problem,
                                   LevelChoice choice = LevelChoice::kAll);
StageLayout to_layout(const Partition& partition, const CostModel& costs,
                      LevelChoice choice = LevelChoice::kAll);

}  // namespace gimbal
