#include <algorithm>
#include <cmath>

#include "gimbal/base/error.h"
#include "gimbal/plan/partition.h"
#include "gimbal/plan/partition/stage_knapsack.h"

namespace gimbal {
namespace {

constexpr std::int64_t kNoLimit = std::numeric_limits<std::int64_t>::max() / 4;

void check_problem(const PartitionProblem& problem) {
  GIMBAL_CHECK(problem.num_stages >= 1 && problem.micro_batches >= 1, "an empty pipeline");
  GIMBAL_CHECK_EQ(problem.in_flight.size(), static_cast<std::size_t>(problem.num_stages));
  for (const int depth : problem.in_flight) GIMBAL_CHECK(depth >= 1, "in flight: ", depth);
}

/// Dynamic programming over (stages, blocks). Costs above a limit are not followed; the limit grows
/// until a partition is found, which is then the best.
class PartitionSearch {
 public:
  explicit PartitionSearch(const PartitionProblem& problem)
      : problem_(problem),
        knapsack_(problem),
        num_blocks_(problem.blocks.size()),
        num_stages_(static_cast<std::size_t>(problem.num_stages)),
        memo_(num_stages_ * num_blocks_ * (num_blocks_ + 1), kUnknown),
        least_before_{0} {
    for (const PartitionBlock& block : problem.blocks) {
      std::int64_t least = block.options[0].time;
      for (const PartitionOption& option : block.options) least = std::min(least, option.time);
      least_before_.push_back(least_before_.back() + least);
      largest_block_ = std::max(largest_block_, least);
    }
  }

  std::optional<Partition> solve() {
    const auto stages = static_cast<std::int64_t>(num_stages_);
    const std::int64_t total = least_before_.back();
    const std::int64_t bound =
        cost_of(total, std::max((total + stages - 1) / stages, largest_block_));
    for (double slack = 0.002; slack < 1e3; slack *= 5) {
      const double limit = static_cast<double>(bound) * (1 + slack) + 1;
      if (limit > static_cast<double>(kNoLimit)) break;
      if (auto found = search(static_cast<std::int64_t>(limit))) return found;
      if (!pruned_) return std::nullopt;
    }
    return search(kNoLimit);
  }

 private:
  static constexpr std::int64_t kUnknown = -1;
  /// The first stages up to some block, at one point of the Pareto front.
  struct State {
    std::int64_t sum;
    std::int64_t max;
    std::uint32_t begin;   // of the last stage
    std::uint32_t before;  // index of the state that it continues
  };

  std::int64_t cost_of(std::int64_t sum, std::int64_t max) const {
    return sum + (problem_.micro_batches - 1) * max;
  }

  std::int64_t cut_time(std::size_t begin, std::size_t end) const {
    return (begin > 0 ? problem_.blocks[begin - 1].cut_time : 0) +
           (end < num_blocks_ ? problem_.blocks[end - 1].cut_time : 0);
  }

  std::int64_t stage_time(std::size_t stage, std::size_t begin, std::size_t end) {
    std::int64_t& time = memo_[(stage * num_blocks_ + begin) * (num_blocks_ + 1) + end];
    if (time == kUnknown) {
      time = knapsack_.least_time(begin, end, problem_.in_flight[stage]);
      if (time != StageKnapsack::kInfeasible) time += cut_time(begin, end);
    }
    return time;
  }

  /// What any completion of a state costs at least.
  std::int64_t outlook(std::size_t stages_done, std::size_t end, std::int64_t sum,
                       std::int64_t max) const {
    const std::int64_t rest = least_before_.back() - least_before_[end];
    const auto left = static_cast<std::int64_t>(num_stages_ - stages_done);
    return cost_of(sum + rest, left > 0 ? std::max(max, (rest + left - 1) / left) : max);
  }

  static void keep_best(std::vector<State>& states) {
    std::sort(states.begin(), states.end(), [](const State& a, const State& b) {
      return a.sum != b.sum ? a.sum < b.sum : a.max < b.max;
    });
    std::size_t kept = 0;
    for (const State& state : states) {
      if (kept > 0 && states[kept - 1].max <= state.max) continue;
      states[kept++] = state;
    }
    states.resize(kept);
  }

  void extend(std::size_t stage, std::size_t begin, const std::vector<State>& from,
              std::int64_t limit, std::vector<std::vector<State>>& to) {
    const std::size_t stages_after = num_stages_ - stage - 1;
    const bool is_last = stages_after == 0;
    for (std::size_t end = is_last ? num_blocks_ : begin + 1; end + stages_after <= num_blocks_;
         ++end) {
      const std::int64_t least = least_before_[end] - least_before_[begin] + cut_time(begin, end);
      if (outlook(stage + 1, end, from.front().sum + least, std::max(from.back().max, least)) >
          limit) {
        pruned_ = true;
        continue;
      }
      const std::int64_t time = stage_time(stage, begin, end);
      if (time == StageKnapsack::kInfeasible) continue;
      for (std::size_t k = 0; k < from.size(); ++k) {
        const std::int64_t sum = from[k].sum + time, max = std::max(from[k].max, time);
        if (outlook(stage + 1, end, sum, max) > limit) {
          pruned_ = true;
          continue;
        }
        to[end].push_back(
            {sum, max, static_cast<std::uint32_t>(begin), static_cast<std::uint32_t>(k)});
      }
    }
  }

  std::optional<Partition> search(std::int64_t limit) {
    pruned_ = false;
    std::vector<std::vector<std::vector<State>>> table(
        num_stages_ + 1, std::vector<std::vector<State>>(num_blocks_ + 1));
    table[0][0].push_back({0, 0, 0, 0});
    for (std::size_t stage = 0; stage < num_stages_; ++stage) {
      for (std::size_t begin = stage; begin < num_blocks_; ++begin) {
        if (table[stage][begin].empty()) continue;
        extend(stage, begin, table[stage][begin], limit, table[stage + 1]);
      }
      for (std::vector<State>& states : table[stage + 1]) keep_best(states);
    }
    const std::vector<State>& ends = table[num_stages_][num_blocks_];
    if (ends.empty()) return std::nullopt;
    std::size_t best = 0;
    for (std::size_t k = 1; k < ends.size(); ++k) {
      if (cost_of(ends[k].sum, ends[k].max) < cost_of(ends[best].sum, ends[best].max)) best = k;
    }
    Partition partition;
    partition.cost = cost_of(ends[best].sum, ends[best].max);
    partition.stage_begin.assign(num_stages_ + 1, num_blocks_);
    partition.option.resize(num_blocks_);
    for (std::size_t stage = num_stages_; stage-- > 0;) {
      const std::size_t end = partition.stage_begin[stage + 1];
      const State& state = table[stage + 1][end][best];
      partition.stage_begin[stage] = state.begin;
      knapsack_.choose(state.begin, end, problem_.in_flight[stage], partition.option);
      best = state.before;
    }
    return partition;
  }

  const PartitionProblem& problem_;
  StageKnapsack knapsack_;
  std::size_t num_blocks_;
  std::size_t num_stages_;
  std::vector<std::int64_t> memo_;          // stage_time, [stage][begin][end]
  std::vector<std::int64_t> least_before_;  // [blocks + 1]: sums of the blocks' least times
  std::int64_t largest_block_ = 0;
  bool pruned_ = false;
};

}  // namespace

std::optional<Partition> solve_partition(const PartitionProblem& problem) {
  check_problem(problem);
  if (problem.blocks.size() < static_cast<std::size_t>(problem.num_stages)) return std::nullopt;
  return PartitionSearch(problem).solve();
}

std::optional<Partition> solve_options(const PartitionProblem& problem,
                                       const std::vector<std::size_t>& stage_begin) {
  check_problem(problem);
  GIMBAL_CHECK_EQ(stage_begin.size(), static_cast<std::size_t>(problem.num_stages) + 1);
  StageKnapsack knapsack(problem);
  Partition partition{stage_begin, std::vector<std::size_t>(problem.blocks.size()), 0};
  std::int64_t sum = 0, max = 0;
  for (std::size_t stage = 0; stage + 1 < stage_begin.size(); ++stage) {
    const std::size_t begin = stage_begin[stage], end = stage_begin[stage + 1];
    std::int64_t time = knapsack.least_time(begin, end, problem.in_flight[stage]);
    if (time == StageKnapsack::kInfeasible) return std::nullopt;
    if (begin > 0) time += problem.blocks[begin - 1].cut_time;
    if (end < problem.blocks.size()) time += problem.blocks[end - 1].cut_time;
    sum += time;
    max = std::max(max, time);
    knapsack.choose(begin, end, problem.in_flight[stage], partition.option);
  }
  partition.cost = sum + (problem.micro_batches - 1) * max;
  return partition;
}

std::int64_t least_capacity(const PartitionProblem& problem,
                            const std::vector<std::size_t>& stage_begin) {
  check_problem(problem);
  const StageKnapsack knapsack(problem);
  std::int64_t least = 0;
  for (std::size_t s = 0; s + 1 < stage_begin.size(); ++s) {
    least = std::max(
        least, knapsack.least_bytes(stage_begin[s], stage_begin[s + 1], problem.in_flight[s]));
  }
  return least;
}

std::int64_t least_capacity(const PartitionProblem& problem) {
  check_problem(problem);
  const std::size_t num_blocks = problem.blocks.size();
  const auto num_stages = static_cast<std::size_t>(problem.num_stages);
  GIMBAL_CHECK(num_blocks >= num_stages, "stages and blocks: ", num_stages, ", ", num_blocks);
  const StageKnapsack knapsack(problem);
  constexpr std::int64_t kNone = std::numeric_limits<std::int64_t>::max();
  // least[b]: for the stages so far, which end before block b.
  std::vector<std::int64_t> least(num_blocks + 1, kNone);
  least[0] = 0;
  for (std::size_t stage = 0; stage < num_stages; ++stage) {
    std::vector<std::int64_t> next(num_blocks + 1, kNone);
    for (std::size_t begin = 0; begin < num_blocks; ++begin) {
      if (least[begin] == kNone) continue;
      for (std::size_t end = begin + 1; end <= num_blocks; ++end) {
        const std::int64_t bytes = knapsack.least_bytes(begin, end, problem.in_flight[stage]);
        next[end] = std::min(next[end], std::max(least[begin], bytes));
      }
    }
    least = std::move(next);
  }
  return least[num_blocks];
}

}  // namespace gimbal
