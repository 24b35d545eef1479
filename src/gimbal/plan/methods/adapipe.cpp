// Cuts and recompute in the manner of AdaPipe (Sun et al., "AdaPipe: Optimizing Pipeline
// Parallelism with Adaptive Recomputation and Partitioning", ASPLOS 2024): a knapsack finds the
// fastest levels of every range of blocks as every stage; dynamic programming from the last stage
// to the first puts ranges together by the length of a 1F1B step.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "gimbal/base/error.h"
#include "gimbal/plan/methods.h"
#include "gimbal/plan/methods/linear_partition.h"
#include "gimbal/plan/partition/stage_knapsack.h"

namespace gimbal {
namespace {

constexpr double kPicosecondsPerSecond = 1e12;

// The pipeline from one stage to the last, in picoseconds. With f and b the stage's forward and
// backward, r the stages after it, n micro-batches and primes for the next stage:
//   warm_up = f + max(warm_up' + b', r * f)   until the first backward can start
//   ending  = b + max(ending' + f', r * b)    after the last forward
//   slowest = max(slowest', f + b)            of a pair in the steady phase
//   step    = warm_up + ending + max(n - 1 - r, 0) * slowest
struct PipelineTail {
  bool possible = false;
  std::int64_t forward = 0, backward = 0;
  std::int64_t warm_up = 0, ending = 0, slowest = 0, step = 0;
  std::size_t end = 0;  // of the first stage's blocks
};

PipelineTail prepend_stage(const PipelineTail* next, std::int64_t forward, std::int64_t backward,
                           std::int64_t stages_after, std::int64_t micro_batches) {
  PipelineTail tail;
  tail.possible = true;
  tail.forward = forward;
  tail.backward = backward;
  tail.warm_up = forward;
  tail.ending = backward;
  tail.slowest = forward + backward;
  if (next != nullptr) {
    tail.warm_up += std::max(next->warm_up + next->backward, stages_after * forward);
    tail.ending += std::max(next->ending + next->forward, stages_after * backward);
    tail.slowest = std::max(tail.slowest, next->slowest);
  }
  const std::int64_t steady = std::max<std::int64_t>(micro_batches - 1 - stages_after, 0);
  tail.step = tail.warm_up + tail.ending + steady * tail.slowest;
  return tail;
}

class AdaPipeTable {
 public:
  explicit AdaPipeTable(const CutProblem& cut)
      : problem_(partition_problem(cut)),
        knapsack_(problem_),
        num_stages_(static_cast<std::size_t>(cut.num_stages)) {
    GIMBAL_CHECK_EQ(problem_.in_flight.size(), num_stages_);
    forward_sums_ = {0};
    for (std::size_t block = 0; block < problem_.blocks.size(); ++block) {
      const Seconds seconds = cut.costs->forward(block, cut.mean);
      forward_sums_.push_back(forward_sums_.back() + std::llround(seconds * kPicosecondsPerSecond));
    }
    tails_.assign(num_stages_ + 1, std::vector<PipelineTail>(problem_.blocks.size() + 1));
    for (std::size_t stage = num_stages_; stage-- > 0;) fill_stage(stage);
  }

  std::optional<Partition> best() {
    if (!tails_[0][0].possible) return std::nullopt;
    Partition result;
    result.stage_begin = {0};
    result.option.resize(problem_.blocks.size());
    for (std::size_t stage = 0; stage < num_stages_; ++stage) {
      const std::size_t begin = result.stage_begin.back(), end = tails_[stage][begin].end;
      knapsack_.choose(begin, end, problem_.in_flight[stage], result.option);
      result.stage_begin.push_back(end);
    }
    result.cost = tails_[0][0].step;
    return result;
  }

 private:
  void fill_stage(std::size_t stage) {
    const std::size_t num_blocks = problem_.blocks.size();
    const bool last = stage + 1 == num_stages_;
    const std::size_t stages_after = num_stages_ - 1 - stage;
    const std::size_t first = stage;  // a block for each stage before
    const std::size_t last_begin = stage == 0 ? 0 : num_blocks - 1 - stages_after;
    for (std::size_t begin = first; begin <= last_begin; ++begin) {
      PipelineTail& best = tails_[stage][begin];
      for (std::size_t end = last ? num_blocks : begin + 1; end + stages_after <= num_blocks;
           ++end) {
        const PipelineTail* next = last ? nullptr : &tails_[stage + 1][end];
        if (next != nullptr && !next->possible) continue;
        const std::int64_t time = knapsack_.least_time(begin, end, problem_.in_flight[stage]);
        if (time == StageKnapsack::kInfeasible) continue;
        PipelineTail tail = joined(time, begin, end, next, stages_after);
        if (best.possible && best.step <= tail.step) continue;
        tail.end = end;
        best = tail;
      }
    }
  }

  // Of a message at a cut one side waits in forward and the other in backward: half each.
  PipelineTail joined(std::int64_t time, std::size_t begin, std::size_t end,
                      const PipelineTail* next, std::size_t stages_after) const {
    std::int64_t cut_time = 0;
    if (begin > 0) cut_time += problem_.blocks[begin - 1].cut_time;
    if (end < problem_.blocks.size()) cut_time += problem_.blocks[end - 1].cut_time;
    const std::int64_t forward = forward_sums_[end] - forward_sums_[begin];
    return prepend_stage(next, forward + cut_time / 2, time - forward + cut_time - cut_time / 2,
                         static_cast<std::int64_t>(stages_after), problem_.micro_batches);
  }

  PartitionProblem problem_;
  StageKnapsack knapsack_;
  std::size_t num_stages_;
  std::vector<std::int64_t> forward_sums_;
  std::vector<std::vector<PipelineTail>> tails_;  // [stage][first block]
};

}  // namespace

std::optional<StageLayout> cut_by_adapipe(const CutProblem& problem) {
  check_enough_blocks(problem);
  const std::optional<Partition> best = AdaPipeTable(problem).best();
  if (!best) return std::nullopt;
  return to_layout(*best, *problem.costs);
}

}  // namespace gimbal
