#include <algorithm>
#include <limits>
#include <vector>

#include "gimbal/plan/partition.h"

namespace gimbal {
namespace {

constexpr std::int64_t kNone = std::numeric_limits<std::int64_t>::max();

struct StageTrial {
  std::int64_t time = kNone;
  std::vector<std::size_t> option;
};

std::int64_t two_largest_of(std::vector<std::int64_t> values) {
  values.resize(std::max<std::size_t>(values.size(), 2));
  std::sort(values.rbegin(), values.rend());
  return values[0] + values[1];
}

// What the stage holds whatever its options.
std::int64_t state_bytes(const PartitionProblem& problem, std::size_t begin, std::size_t end) {
  std::vector<std::size_t> held;
  for (std::size_t i = begin; i < end; ++i) held.push_back(i);
  const bool is_tied = problem.tied_block < problem.blocks.size() && end == problem.blocks.size();
  if (is_tied && begin > problem.tied_block) held.push_back(problem.tied_block);
  const bool waits = is_tied && begin <= problem.tied_block && problem.tied_gradient_waits;
  std::int64_t bytes = 0;
  std::vector<std::int64_t> gathered, gradients;
  for (const std::size_t i : held) {
    const PartitionBlock& block = problem.blocks[i];
    bytes += block.state;
    gathered.push_back(block.gathered);
    if (waits && i == problem.tied_block)
      bytes += block.gradient;
    else
      gradients.push_back(block.gradient);
  }
  return bytes + two_largest_of(gathered) + two_largest_of(gradients);
}

// Every combination of options of the blocks begin .. end - 1.
StageTrial try_all_options(const PartitionProblem& problem, std::size_t stage, std::size_t begin,
                           std::size_t end) {
  std::vector<std::size_t> option(end - begin, 0);
  const std::int64_t state = state_bytes(problem, begin, end);
  StageTrial best;
  for (;;) {
    std::int64_t time = 0, bytes = state, workspace = 0;
    if (begin > 0) {
      time += problem.blocks[begin - 1].cut_time;
      bytes += problem.blocks[begin - 1].cut_bytes;
    }
    if (end < problem.blocks.size()) {
      time += problem.blocks[end - 1].cut_time;
      bytes += problem.blocks[end - 1].cut_bytes;
    }
    for (std::size_t i = begin; i < end; ++i) {
      const PartitionOption& chosen = problem.blocks[i].options[option[i - begin]];
      time += chosen.time;
      bytes += problem.in_flight[stage] * chosen.saved;
      workspace = std::max(workspace, chosen.workspace);
    }
    if (bytes + workspace <= problem.capacity && time < best.time) best = {time, option};
    std::size_t digit = 0;
    while (digit < option.size() &&
           ++option[digit] == problem.blocks[begin + digit].options.size()) {
      option[digit++] = 0;
    }
    if (digit == option.size()) return best;
  }
}

}  // namespace

std::optional<Partition> solve_partition_brute_force(const PartitionProblem& problem) {
  const std::size_t num_blocks = problem.blocks.size();
  const auto num_stages = static_cast<std::size_t>(problem.num_stages);
  if (num_blocks < num_stages) return std::nullopt;
  std::vector<std::vector<std::vector<StageTrial>>> trials(num_stages);
  for (std::size_t stage = 0; stage < num_stages; ++stage) {
    trials[stage].assign(num_blocks + 1, std::vector<StageTrial>(num_blocks + 1));
    for (std::size_t begin = 0; begin < num_blocks; ++begin) {
      for (std::size_t end = begin + 1; end <= num_blocks; ++end) {
        if (stage == 0 && begin != 0) continue;
        trials[stage][begin][end] = try_all_options(problem, stage, begin, end);
      }
    }
  }
  std::optional<Partition> best;
  // The cuts are the set bits of num_blocks - 1 places.
  for (std::uint32_t cuts = 0; cuts < (1U << (num_blocks - 1)); ++cuts) {
    std::vector<std::size_t> begins{0};
    for (std::size_t place = 0; place + 1 < num_blocks; ++place) {
      if ((cuts >> place & 1U) != 0) begins.push_back(place + 1);
    }
    if (begins.size() != num_stages) continue;
    begins.push_back(num_blocks);
    Partition partition{begins, {}, 0};
    std::int64_t sum = 0, max = 0;
    bool fits = true;
    for (std::size_t stage = 0; stage < num_stages && fits; ++stage) {
      const StageTrial& trial = trials[stage][begins[stage]][begins[stage + 1]];
      fits = trial.time != kNone;
      if (!fits) break;
      sum += trial.time;
      max = std::max(max, trial.time);
      partition.option.insert(partition.option.end(), trial.option.begin(), trial.option.end());
    }
    if (!fits) continue;
    partition.cost = sum + (problem.micro_batches - 1) * max;
    if (!best || partition.cost < best->cost) best = std::move(partition);
  }
  return best;
}

}  // namespace gimbal
