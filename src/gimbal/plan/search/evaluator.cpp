#include "gimbal/plan/search/evaluator.h"

#include <algorithm>
#include <cmath>

#include "gimbal/base/error.h"
#include "gimbal/schedule/validate.h"

namespace gimbal {
namespace {

StepTime& operator+=(StepTime& a, const StepTime& b) {
  a.seconds += b.seconds;
  a.compute += b.compute;
  a.recompute += b.recompute;
  a.communication += b.communication;
  a.bubble += b.bubble;
  a.imbalance += b.imbalance;
  return a;
}

void divide(StepTime& time, double by) {
  for (Seconds* part : {&time.seconds, &time.compute, &time.recompute, &time.communication,
                        &time.bubble, &time.imbalance}) {
    *part /= by;
  }
}

template <typename T>
void raise_each(std::vector<T>& largest, const std::vector<T>& values) {
  if (largest.empty()) largest.resize(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) largest[i] = std::max(largest[i], values[i]);
}

bool same_shape(const ScheduleShape& a, const ScheduleShape& b) {
  return a.kind == b.kind && a.ranks == b.ranks && a.stages_per_rank == b.stages_per_rank &&
         a.micro_batches == b.micro_batches;
}

}  // namespace

std::vector<std::uint64_t> spread(std::uint64_t total, std::uint64_t count) {
  std::vector<std::uint64_t> indices;
  count = std::min(total, count);
  for (std::uint64_t i = 0; i < count; ++i) indices.push_back((2 * i + 1) * total / (2 * count));
  return indices;
}

Evaluator::Evaluator(const PlanInput& input)
    : input_(input), frozen_(input.frozen), state_(input.state) {
  if (frozen_.empty()) frozen_.assign(input.model.blocks.size(), false);
  GIMBAL_CHECK_EQ(frozen_.size(), input.model.blocks.size());
  for (const double bytes : {state_.master, state_.compute, state_.gradient, state_.moments}) {
    GIMBAL_USER_CHECK(bytes >= 0 && std::isfinite(bytes), "bytes per parameter: ", bytes,
                      "; must not be negative");
  }
  // Activations as wide as the master values: blocks use these themselves.
  if (input.profile.value_bytes >= state_.master) state_.compute = 0;
  const Bytes memory = input.memory_bytes.value_or(input.profile.memory_bytes);
  GIMBAL_USER_CHECK(memory > 0 && std::isfinite(memory), "the profile of ", input.profile.hardware,
                    " has no memory_bytes; give the memory of a device");
  // Nothing left: no plan fits, and the search says what would.
  capacity_ = std::max(0.0, memory - input.profile.reserved_bytes);
}

const CostModel& Evaluator::costs(const MeshShape& mesh, ShardPolicy policy) {
  const std::pair key{mesh, policy};
  for (const auto& [known, model] : costs_) {
    if (known == key) return *model;
  }
  CostSettings settings;
  settings.mesh = mesh;
  settings.frozen = frozen_;
  settings.state = state_;
  settings.shard_policy = policy;
  costs_.emplace_back(key, std::make_unique<CostModel>(input_.model, input_.profile, settings));
  return *costs_.back().second;
}

const Evaluator::Pipeline& Evaluator::pipeline(const ScheduleShape& shape) {
  for (const auto& [known, made] : pipelines_) {
    if (same_shape(known, shape)) return *made;
  }
  auto made = std::make_unique<Pipeline>();
  made->schedule = make_schedule(shape);
  ScheduleCheck check = check_schedule(made->schedule);
  GIMBAL_CHECK(check.problems.empty(), "the schedule cannot run: ", check.problems.front());
  made->in_flight = std::move(check.in_flight);
  pipelines_.emplace_back(shape, std::move(made));
  return *pipelines_.back().second;
}

CutProblem Evaluator::cut_problem(const Candidate& candidate, const PackedWork& packed) {
  CutProblem problem;
  problem.costs = &costs(candidate.mesh, candidate.policy);
  problem.num_stages = candidate.schedule.ranks * candidate.schedule.stages_per_rank;
  problem.in_flight = pipeline(candidate.schedule).in_flight;
  problem.micro_batches = candidate.schedule.micro_batches;
  problem.mean = packed.mean;
  problem.largest = packed.largest;
  problem.capacity = capacity_ / candidate.schedule.stages_per_rank;
  return problem;
}

std::uint64_t Evaluator::num_full_steps(const Candidate& candidate,
                                        const PackedWork& packed) const {
  return std::max<std::uint64_t>(1, packed.packs.size() / candidate.packs_per_step);
}

std::vector<WorkSize> Evaluator::step_work(const Candidate& candidate, const PackedWork& packed,
                                           std::uint64_t step) const {
  const auto ranks = static_cast<std::uint64_t>(candidate.mesh.data_parallel());
  const std::uint64_t per_rank = candidate.packs_per_step / ranks;
  std::vector<WorkSize> work;
  work.reserve(candidate.packs_per_step);
  for (std::uint64_t rank = 0; rank < ranks; ++rank) {
    for (std::uint64_t slot = 0; slot < per_rank; ++slot) {
      const std::uint64_t pack = step * candidate.packs_per_step + slot * ranks + rank;
      work.push_back(packed.packs[pack % packed.packs.size()]);
    }
  }
  return work;
}

StepBound Evaluator::bound_of(const Candidate& candidate, std::span<const WorkSize> micro_batches,
                              double repeat) {
  BoundInput input;
  input.costs = &costs(candidate.mesh, candidate.policy);
  input.schedule = candidate.schedule;
  input.in_flight = pipeline(candidate.schedule).in_flight;
  input.micro_batches = micro_batches;
  input.repeat = repeat;
  input.capacity = capacity_;
  return step_bound(input);
}

StepBound Evaluator::quick_bound(const Candidate& candidate, const PackedWork& packed) {
  return bound_of(candidate, {&packed.mean, 1}, static_cast<double>(candidate.packs_per_step));
}

StepBound Evaluator::bound(const Candidate& candidate, const PackedWork& packed,
                           std::uint64_t step) {
  const std::vector<WorkSize> work = step_work(candidate, packed, step);
  StepBound result = bound_of(candidate, work, 1);
  // A plan that does not fit has no bound by memory.
  if (std::isinf(result.memory)) result.memory = 0;
  return result;
}

double Evaluator::work_ratio(const Candidate& candidate, const PackedWork& packed,
                             const std::vector<std::uint64_t>& steps) {
  const CostModel& costs = this->costs(candidate.mesh, candidate.policy);
  WorkSize sum;
  for (const std::uint64_t step : steps) {
    for (const WorkSize& work : step_work(candidate, packed, step)) sum = sum + work;
  }
  const double count = static_cast<double>(steps.size() * candidate.packs_per_step);
  const WorkSize mean = (1 / count) * sum;
  Seconds all = 0, chosen = 0;
  for (std::size_t i = 0; i < costs.num_blocks(); ++i) {
    all += costs.forward(i, packed.mean) + costs.backward(i, packed.mean);
    chosen += costs.forward(i, mean) + costs.backward(i, mean);
  }
  return chosen > 0 ? all / chosen : 1;
}

StepSimulation Evaluator::simulate(const Candidate& candidate, const StageLayout& layout,
                                   const PackedWork& packed, std::uint64_t num_steps) {
  StepSimulation mean;
  const std::vector<std::uint64_t> steps = spread(num_full_steps(candidate, packed), num_steps);
  for (const std::uint64_t step : steps) {
    const std::vector<WorkSize> work = step_work(candidate, packed, step);
    StepInput input;
    input.costs = &costs(candidate.mesh, candidate.policy);
    input.layout = &layout;
    input.schedule = &pipeline(candidate.schedule).schedule;
    input.micro_batches = work;
    const StepSimulation one = simulate_step(input);
    ++num_simulated_;
    mean.time += one.time;
    raise_each(mean.peak_bytes, one.peak_bytes);
    if (mean.stage_seconds.empty()) mean.stage_seconds.resize(one.stage_seconds.size());
    for (std::size_t s = 0; s < one.stage_seconds.size(); ++s) {
      mean.stage_seconds[s] += one.stage_seconds[s] / static_cast<double>(steps.size());
    }
  }
  const double ratio = work_ratio(candidate, packed, steps);
  divide(mean.time, static_cast<double>(steps.size()) / ratio);
  for (Seconds& seconds : mean.stage_seconds) seconds *= ratio;
  return mean;
}

}  // namespace gimbal
