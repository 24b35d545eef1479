// The cheapest way to run the blocks of one stage within its memory.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <utility>
#include <vector>

#include "gimbal/plan/partition.h"
#include "gimbal/plan/partition/stage_state.h"

namespace gimbal {

/// Answers "least time of blocks begin .. end - 1 with d micro-batches in flight" exactly: a
/// multiple-choice knapsack. Blocks with equal options are of one kind; for a kind, the Pareto
/// fronts of (saved, time) of 1, 2, .. such blocks are made once. The largest workspace is not
/// additive: each of its few values is tried as a limit on the options.
class StageKnapsack {
 public:
  static constexpr std::int64_t kInfeasible = std::numeric_limits<std::int64_t>::max();

  /// `problem` must outlive the knapsack.
  explicit StageKnapsack(const PartitionProblem& problem);

  /// Least sum of the blocks' times, without cut times; kInfeasible when the memory does not do.
  std::int64_t least_time(std::size_t begin, std::size_t end, std::int64_t in_flight);
  /// The options behind least_time, written to option[begin .. end - 1].
  void choose(std::size_t begin, std::size_t end, std::int64_t in_flight,
              std::vector<std::size_t>& option);
  /// Bytes that the stage needs at least.
  std::int64_t least_bytes(std::size_t begin, std::size_t end, std::int64_t in_flight) const;

 private:
  /// A way to run some blocks of one kind. `before`: the point of one block fewer.
  struct Point {
    std::int64_t saved = 0;
    std::int64_t time = 0;
    std::uint32_t option = 0;
    std::uint32_t before = 0;
  };
  using Front = std::vector<Point>;  // ascending in saved, descending in time
  struct Group {                     // blocks of one kind in a stage, and the options allowed
    std::size_t kind;
    std::size_t count;
    std::uint32_t mask;
  };
  struct Choice {  // a workspace limit and what it leaves
    std::int64_t time = kInfeasible;
    std::int64_t budget = 0;  // saved bytes
    std::vector<Group> groups;
  };

  Choice best_choice(std::size_t begin, std::size_t end, std::int64_t in_flight);
  std::vector<Group> groups_of(std::size_t begin, std::size_t end) const;
  std::vector<std::int64_t> workspaces(const std::vector<Group>& groups) const;
  bool allow(std::vector<Group>& groups, std::int64_t workspace) const;
  std::int64_t combine(const std::vector<Group>& groups, std::int64_t budget);
  const Front& front(const Group& group);
  bool pick(const std::vector<Group>& groups, std::size_t first, std::int64_t budget,
            std::int64_t time, std::vector<std::size_t>& points);

  const PartitionProblem& problem_;
  StageState state_;
  std::vector<std::vector<PartitionOption>> kinds_;  // the options of each kind
  std::vector<std::size_t> kind_;                    // of each block
  std::map<std::pair<std::size_t, std::uint32_t>, std::vector<Front>> fronts_;
};

}  // namespace gimbal
