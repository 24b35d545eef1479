#include "gimbal/plan/bound.h"

#include <algorithm>
#include <cmath>

#include "gimbal/base/error.h"
#include "gimbal/sim/rank_state.h"

namespace gimbal {
namespace {

Seconds whole_time(const CostModel& costs, const WorkSize& work) {
  Seconds seconds = 0;
  for (std::size_t i = 0; i < costs.num_blocks(); ++i) {
    seconds += costs.forward(i, work) + costs.backward(i, work);
  }
  return seconds;
}

/// The least of each size.
WorkSize smallest_of(std::span<const WorkSize> micro_batches) {
  WorkSize least = micro_batches.front();
  for (const WorkSize& work : micro_batches) {
    least.text_rows = std::min(least.text_rows, work.text_rows);
    least.text_pairs = std::min(least.text_pairs, work.text_pairs);
    least.loss_rows = std::min(least.loss_rows, work.loss_rows);
    least.vision_rows = std::min(least.vision_rows, work.vision_rows);
    least.vision_pairs = std::min(least.vision_pairs, work.vision_pairs);
  }
  return least;
}

/// Seconds of recomputation per micro-batch that memory forces at least: relaxed to fractions of
/// blocks, to the least number in flight, and to micro-batches as small as the smallest.
Seconds forced_recompute(const BoundInput& input, const WorkSize& mean) {
  const WorkSize least = smallest_of(input.micro_batches);
  const CostModel& costs = *input.costs;
  Bytes held = 0;
  struct Saving {
    Bytes bytes;
    double seconds_per_byte;
  };
  std::vector<Saving> savings;
  const int in_flight = *std::min_element(input.in_flight.begin(), input.in_flight.end());
  for (std::size_t i = 0; i < costs.num_blocks(); ++i) {
    const Bytes kept = costs.saved(i, least, Recompute::kKeep);
    held += lasting_bytes(costs, i, input.schedule.micro_batches) + in_flight * kept;
    Saving saving{0, INFINITY};
    for (const Recompute level : costs.levels(i)) {
      const Bytes freed = in_flight * (kept - costs.saved(i, least, level));
      if (freed <= 0) continue;
      saving.bytes = std::max(saving.bytes, freed);
      saving.seconds_per_byte =
          std::min(saving.seconds_per_byte, costs.recompute(i, mean, level) / freed);
    }
    if (saving.bytes > 0) savings.push_back(saving);
  }
  Bytes excess = held - input.capacity * costs.settings().mesh.pp;
  std::sort(savings.begin(), savings.end(), [](const Saving& a, const Saving& b) {
    return a.seconds_per_byte < b.seconds_per_byte;
  });
  Seconds seconds = 0;
  for (const Saving& saving : savings) {
    if (excess <= 0) break;
    const Bytes freed = std::min(excess, saving.bytes);
    seconds += freed * saving.seconds_per_byte;
    excess -= freed;
  }
  return excess > 0 ? INFINITY : seconds;
}

/// Sums over the blocks before each one, of a micro-batch: per block the shortest time over the
/// micro-batches, so that no micro-batch takes less; `most_`: the longest.
struct BlockSums {
  std::vector<Seconds> mean{0};
  std::vector<Seconds> forward{0}, input{0}, all{0};  // input: forward and input gradients
  std::vector<Seconds> passes{0};  // a forward and a backward, of any two micro-batches
  std::vector<Seconds> most_forward{0}, most_backward{0};
};

BlockSums block_sums(const CostModel& costs, std::span<const WorkSize> micro_batches,
                     const WorkSize& mean) {
  BlockSums sums;
  const auto add = [](std::vector<Seconds>& list, Seconds value) {
    list.push_back(list.back() + value);
  };
  for (std::size_t i = 0; i < costs.num_blocks(); ++i) {
    Seconds forward = INFINITY, backward = INFINITY, input = INFINITY, all = INFINITY;
    Seconds most_forward = 0, most_backward = 0;
    for (const WorkSize& work : micro_batches) {
      const Seconds f = costs.forward(i, work), b = costs.backward(i, work);
      forward = std::min(forward, f);
      backward = std::min(backward, b);
      input = std::min(input, f + costs.backward_input(i, work));
      all = std::min(all, f + b);
      most_forward = std::max(most_forward, f);
      most_backward = std::max(most_backward, b);
    }
    add(sums.mean, costs.forward(i, mean) + costs.backward(i, mean));
    add(sums.forward, forward);
    add(sums.input, input);
    add(sums.all, all);
    add(sums.passes, forward + backward);
    add(sums.most_forward, most_forward);
    add(sums.most_backward, most_backward);
  }
  return sums;
}

/// What a stage of blocks begin .. end - 1 waits besides its work.
Seconds stage_waits(PipelineKind kind, std::size_t stages_behind, bool apart, const BlockSums& sums,
                    std::size_t begin, std::size_t end) {
  const auto before = [&](const std::vector<Seconds>& list) { return list[begin]; };
  const auto after = [&](const std::vector<Seconds>& list) { return list.back() - list[end]; };
  const auto mine = [&](const std::vector<Seconds>& list) { return list[end] - list[begin]; };
  const auto ahead = static_cast<double>(stages_behind);  // forwards that fill a wait
  if (kind == PipelineKind::kGpipe) return before(sums.passes) + after(sums.all);
  if (kind == PipelineKind::kZeroBubble) {
    return before(sums.forward) +
           std::max(0.0, after(sums.input) - ahead * mine(sums.most_forward));
  }
  const Seconds first = std::max(0.0, after(sums.all) - ahead * mine(sums.most_forward));
  const Seconds last = std::max(0.0, after(sums.all) - ahead * mine(sums.most_backward));
  return before(sums.passes) + (apart ? first + last : std::max(first, last));
}

/// The least over all cuts of the longest stage: its work in the step and its waits.
Seconds least_fill(PipelineKind kind, std::size_t stages, double per_rank, const BlockSums& sums) {
  const std::size_t blocks = sums.mean.size() - 1;
  const bool apart = per_rank > static_cast<double>(stages);
  std::vector<Seconds> best(blocks + 1, INFINITY);
  best[0] = 0;
  for (std::size_t stage = 0; stage < stages; ++stage) {
    const std::size_t behind = stages - 1 - stage;
    std::vector<Seconds> next(blocks + 1, INFINITY);
    for (std::size_t begin = stage; begin < blocks; ++begin) {
      if (std::isinf(best[begin])) continue;
      for (std::size_t end = behind == 0 ? blocks : begin + 1; end + behind <= blocks; ++end) {
        const Seconds seconds = per_rank * (sums.mean[end] - sums.mean[begin]) +
                                stage_waits(kind, behind, apart, sums, begin, end);
        next[end] = std::min(next[end], std::max(best[begin], seconds));
      }
    }
    best = std::move(next);
  }
  return best[blocks];
}

}  // namespace

Seconds StepBound::seconds() const { return std::max({work, critical_path, memory, fill}); }

StepBound step_bound(const BoundInput& input) {
  const CostModel& costs = *input.costs;
  const MeshShape& mesh = costs.settings().mesh;
  GIMBAL_CHECK(!input.micro_batches.empty(), "a step without micro-batches");
  const auto distinct = static_cast<double>(input.micro_batches.size());
  WorkSize sum;
  Seconds largest = 0;
  for (const WorkSize& work : input.micro_batches) {
    sum = sum + work;
    largest = std::max(largest, whole_time(costs, work));
  }
  const WorkSize mean = (1 / distinct) * sum;
  const double count = distinct * input.repeat;
  const double ranks = mesh.data_parallel();
  const double stages = mesh.pp;
  const double per_rank = count / ranks;  // micro-batches
  Seconds update = 0;
  for (std::size_t i = 0; i < costs.num_blocks(); ++i) update += costs.optimizer_seconds(i);
  update /= stages;

  StepBound bound;
  const Seconds work = count * whole_time(costs, mean) / (ranks * stages);
  bound.work = work + update;
  const BlockSums sums = block_sums(costs, input.micro_batches, mean);
  const bool split = input.schedule.kind == PipelineKind::kZeroBubble;
  bound.critical_path = split ? sums.input.back() : largest;
  bound.memory = work + count * forced_recompute(input, mean) / (ranks * stages) + update;
  if (mesh.pp > 1 && input.schedule.kind != PipelineKind::kInterleaved) {
    bound.fill = update + least_fill(input.schedule.kind, input.in_flight.size(), per_rank, sums);
  }
  return bound;
}

}  // namespace gimbal
