// What the planner's passes share: cost models, schedules and the simulation of candidates.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "gimbal/plan/bound.h"
#include "gimbal/plan/cut_problem.h"
#include "gimbal/plan/planner.h"

namespace gimbal {

/// A plan without its cuts.
struct Candidate {
  MeshShape mesh;
  ShardPolicy policy = ShardPolicy::kKeepWeights;
  ScheduleShape schedule;
  std::uint64_t packs_per_step = 1;
};

class Evaluator {
 public:
  struct Pipeline {
    Schedule schedule;
    std::vector<int> in_flight;  // per stage
  };

  /// `input` must outlive the evaluator.
  explicit Evaluator(const PlanInput& input);

  const PlanInput& input() const { return input_; }
  /// Of a device, what is not ours taken off. A stage of an interleaved schedule may use its share.
  Bytes capacity() const { return capacity_; }
  const CostModel& costs(const MeshShape& mesh, ShardPolicy policy);
  const Pipeline& pipeline(const ScheduleShape& shape);
  CutProblem cut_problem(const Candidate& candidate, const PackedWork& packed);

  /// The micro-batches of full step `step`, rank by rank. Fewer packs than a step has start again.
  std::vector<WorkSize> step_work(const Candidate& candidate, const PackedWork& packed,
                                  std::uint64_t step) const;
  std::uint64_t num_full_steps(const Candidate& candidate, const PackedWork& packed) const;

  /// Bound of a step of mean micro-batches: quick.
  StepBound quick_bound(const Candidate& candidate, const PackedWork& packed);
  /// Bound of the given step.
  StepBound bound(const Candidate& candidate, const PackedWork& packed, std::uint64_t step);

  /// Steps differ, as the packs of each are alike: how much more work the epoch's mean step has
  /// than the mean of the given ones.
  double work_ratio(const Candidate& candidate, const PackedWork& packed,
                    const std::vector<std::uint64_t>& steps);

  /// Mean of `num_steps` steps that are spread over the epoch, times their work_ratio; peaks are
  /// the largest.
  StepSimulation simulate(const Candidate& candidate, const StageLayout& layout,
                          const PackedWork& packed, std::uint64_t num_steps);
  std::uint64_t num_simulated() const { return num_simulated_; }

 private:
  StepBound bound_of(const Candidate& candidate, std::span<const WorkSize> micro_batches,
                     double repeat);

  const PlanInput& input_;
  std::vector<bool> frozen_;
  StateBytes state_;
  Bytes capacity_ = 0;
  std::vector<std::pair<std::pair<MeshShape, ShardPolicy>, std::unique_ptr<CostModel>>> costs_;
  std::vector<std::pair<ScheduleShape, std::unique_ptr<Pipeline>>> pipelines_;
  std::uint64_t num_simulated_ = 0;
};

/// Indices of `count` of `total` things, evenly spread.
std::vector<std::uint64_t> spread(std::uint64_t total, std::uint64_t count);

}  // namespace gimbal
