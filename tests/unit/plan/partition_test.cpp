#include "gimbal/plan/partition.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>

#include "gimbal/plan/partition/stage_knapsack.h"
#include "sim/sim_models.h"
#include "unit/balance/check_cases.h"

namespace gimbal {
namespace {

using testing::check_cases;

/// Both ends included.
int pick(int low, int high) { return *testing::between(low, high + 1); }

PartitionProblem random_problem() {
  PartitionProblem problem;
  const int num_blocks = pick(1, 9);
  problem.num_stages = pick(1, std::min(4, num_blocks));
  problem.micro_batches = pick(1, 12);
  // A few kinds of blocks, so that some are equal and some are not.
  std::vector<PartitionBlock> kinds(static_cast<std::size_t>(pick(1, num_blocks)));
  for (PartitionBlock& kind : kinds) {
    const int levels = pick(1, 3);
    const int time = pick(1, 40), saved = pick(0, 30);
    for (int level = 0; level < levels; ++level) {
      kind.options.push_back(
          {time + level * pick(0, 20), std::max(0, saved - level * pick(0, 15)), pick(0, 25)});
    }
    kind.state = pick(0, 20);
    kind.gathered = pick(0, 1) * pick(0, 10);
    kind.gradient = pick(0, 1) * pick(0, 10);
    kind.cut_time = pick(0, 6);
    kind.cut_bytes = pick(0, 6);
  }
  for (int i = 0; i < num_blocks; ++i) {
    PartitionBlock block =
        kinds[static_cast<std::size_t>(pick(0, static_cast<int>(kinds.size()) - 1))];
    if (pick(0, 3) == 0) {
      block.state = pick(0, 20);
      block.gradient = pick(0, 40);
    }
    problem.blocks.push_back(block);
  }
  for (int s = 0; s < problem.num_stages; ++s) {
    problem.in_flight.push_back(pick(0, 1) == 0 ? problem.num_stages - s : pick(1, 6));
  }
  if (pick(0, 1) == 0) {
    problem.tied_block = static_cast<std::size_t>(pick(0, num_blocks - 1));
    problem.tied_gradient_waits = pick(0, 1) == 0;
  }
  const std::int64_t least = least_capacity(problem);
  // Tight, loose, and one byte too little.
  problem.capacity = pick(0, 4) == 0 ? least - 1 : least + pick(0, 1) * pick(0, 400);
  return problem;
}

std::int64_t largest_two(std::vector<std::int64_t> values) {
  values.insert(values.end(), {0, 0});
  std::sort(values.rbegin(), values.rend());
  return values[0] + values[1];
}

/// State, gathered copies and gradients of a stage.
std::int64_t held_bytes(const PartitionProblem& problem, std::size_t begin, std::size_t end) {
  std::int64_t bytes = 0;
  std::vector<std::int64_t> gathered, gradients;
  const bool with_head = end == problem.blocks.size();
  for (std::size_t i = 0; i < problem.blocks.size(); ++i) {
    const bool is_own = begin <= i && i < end, is_tied = with_head && i == problem.tied_block;
    if (!is_own && !is_tied) continue;
    const PartitionBlock& block = problem.blocks[i];
    bytes += block.state;
    gathered.push_back(block.gathered);
    const bool waits = is_own && is_tied && problem.tied_gradient_waits;
    if (waits) bytes += block.gradient;
    gradients.push_back(waits ? 0 : block.gradient);
  }
  return bytes + largest_two(gathered) + largest_two(gradients);
}

TEST(Partition, PropertyEqualsBruteForce) {
  check_cases(10000, [] {
    const PartitionProblem problem = random_problem();
    const auto fast = solve_partition(problem);
    const auto slow = solve_partition_brute_force(problem);
    RC_ASSERT(fast.has_value() == slow.has_value());
    RC_ASSERT(fast.has_value() == (problem.capacity >= least_capacity(problem)));
    if (!fast) return;
    RC_ASSERT(fast->cost == slow->cost);
    // The choice costs what is claimed and fits.
    std::int64_t sum = 0, max = 0;
    RC_ASSERT(fast->stage_begin.front() == 0U);
    RC_ASSERT(fast->stage_begin.back() == problem.blocks.size());
    for (int s = 0; s < problem.num_stages; ++s) {
      const std::size_t begin = fast->stage_begin[static_cast<std::size_t>(s)];
      const std::size_t end = fast->stage_begin[static_cast<std::size_t>(s) + 1];
      RC_ASSERT(begin < end);
      std::int64_t time = 0, bytes = held_bytes(problem, begin, end), workspace = 0;
      for (const std::size_t cut : {begin, end}) {
        if (cut == 0 || cut == problem.blocks.size()) continue;
        time += problem.blocks[cut - 1].cut_time;
        bytes += problem.blocks[cut - 1].cut_bytes;
      }
      for (std::size_t i = begin; i < end; ++i) {
        const PartitionOption& option = problem.blocks[i].options[fast->option[i]];
        time += option.time;
        bytes += problem.in_flight[static_cast<std::size_t>(s)] * option.saved;
        workspace = std::max(workspace, option.workspace);
      }
      RC_ASSERT(bytes + workspace <= problem.capacity);
      sum += time;
      max = std::max(max, time);
    }
    RC_ASSERT(fast->cost == sum + (problem.micro_batches - 1) * max);
  });
}

/// 101 blocks of 6 kinds, 4 levels, like a vision tower before a language model.
PartitionProblem large_problem(int num_stages) {
  PartitionProblem problem;
  problem.num_stages = num_stages;
  problem.micro_batches = 64;
  const auto add = [&](int count, std::int64_t time, std::int64_t saved, int levels) {
    PartitionBlock block;
    for (int level = 0; level < levels; ++level) {
      const std::int64_t again = level == 0   ? 0
                                 : level == 1 ? time * 13 / 100
                                 : level == 2 ? time * 19 / 100
                                              : time / 3;
      const std::int64_t kept = level == 0   ? saved
                                : level == 1 ? saved * 57 / 100
                                : level == 2 ? saved * 48 / 100
                                             : saved / 13;
      block.options.push_back({time + again, kept, saved / 5 + (saved - kept)});
    }
    block.state = saved / 4;
    block.gathered = saved / 8;
    block.gradient = saved / 6;
    block.cut_time = time / 90;
    block.cut_bytes = saved / 20;
    for (int i = 0; i < count; ++i) problem.blocks.push_back(block);
  };
  add(1, 300'000'007, 20'000'003, 1);
  add(45, 9'100'000'019, 410'000'131, 4);
  add(1, 900'000'011, 60'000'017, 2);
  add(1, 100'000'003, 30'000'001, 1);
  add(51, 11'700'000'041, 530'000'357, 4);
  add(1, 90'000'001, 30'000'001, 2);
  add(1, 7'000'000'013, 90'000'019, 1);
  for (int s = 0; s < num_stages; ++s) problem.in_flight.push_back(num_stages - s);
  return problem;
}

TEST(Partition, SolvesLargeModelsUnderAnyMemory) {
  for (const int stages : {1, 4, 16}) {
    PartitionProblem problem = large_problem(stages);
    const std::int64_t least = least_capacity(problem);
    std::int64_t last = std::numeric_limits<std::int64_t>::max();
    for (const int percent : {100, 110, 140, 200, 400, 2000}) {
      problem.capacity = least / 100 * percent + percent;
      const auto partition = solve_partition(problem);
      ASSERT_TRUE(partition) << stages << " stages, " << percent << " %";
      EXPECT_LE(partition->cost, last) << "more memory made it slower";
      last = partition->cost;
    }
    problem.capacity = least - 1;
    EXPECT_FALSE(solve_partition(problem));
  }
}

TEST(Partition, HasNoneForFewerBlocksThanStages) {
  PartitionProblem problem;
  problem.blocks.resize(2);
  for (PartitionBlock& block : problem.blocks) block.options.push_back({1, 0, 0});
  problem.num_stages = 3;
  problem.in_flight = {3, 2, 1};
  problem.capacity = 100;
  EXPECT_FALSE(solve_partition(problem));
}

/// Bytes that a tied embedding adds to the last stage, which begins at `begin`: by stage_bytes and
/// by the partition.
std::pair<Bytes, Bytes> tied_bytes_of_last_stage(std::size_t begin, const CostSettings& settings,
                                                 int micro_batches) {
  ModelDesc model = testing::small_model();
  model.blocks.back().num_parameters = 0;
  std::vector<Bytes> whole, least;
  for (const bool tied : {false, true}) {
    model.tied_embeddings = tied;
    const CostModel costs(model, testing::small_profile(), settings);
    CutProblem cut;
    cut.costs = &costs;
    cut.num_stages = 2;
    cut.in_flight = {2, 1};
    cut.micro_batches = micro_batches;
    cut.mean = cut.largest = testing::work_of(2, 100);
    cut.capacity = 1e12;
    const PartitionProblem problem = partition_problem(cut);
    const StageLayout layout{{0, begin, costs.num_blocks()},
                             std::vector<Recompute>(costs.num_blocks(), Recompute::kKeep)};
    whole.push_back(stage_bytes(cut, layout, 1));
    least.push_back(
        static_cast<Bytes>(StageKnapsack(problem).least_bytes(begin, costs.num_blocks(), 1)));
  }
  return {whole[1] - whole[0], least[1] - least[0]};
}

TEST(Partition, CountsATiedHeadsEmbedding) {
  const ModelDesc model = testing::small_model();
  std::size_t embedding = 0;
  while (model.blocks[embedding].kind != BlockKind::kTextEmbed) ++embedding;
  for (const ShardPolicy policy : {ShardPolicy::kReshard, ShardPolicy::kKeepWeights}) {
    for (const int dp_shard : {1, 2}) {
      const CostSettings settings = testing::settings_for({.pp = 2, .dp_shard = dp_shard}, policy);
      const CostModel costs(model, testing::small_profile(), settings);
      for (const int micro_batches : {1, 4}) {
        SCOPED_TRACE(::testing::Message() << (policy == ShardPolicy::kReshard ? "reshard" : "keep")
                                          << ", dp_shard " << dp_shard << ", " << micro_batches);
        // A copy, with its share of what is gathered and reduced.
        const auto [copy, least_copy] =
            tied_bytes_of_last_stage(embedding + 1, settings, micro_batches);
        EXPECT_NEAR(least_copy, copy, 1);
        EXPECT_GE(copy, costs.state_bytes(embedding));
        EXPECT_EQ(copy > costs.state_bytes(embedding), dp_shard > 1);
        // One weight. Its gradient waits while those of two other blocks are there.
        const auto [shared, least_shared] =
            tied_bytes_of_last_stage(embedding, settings, micro_batches);
        EXPECT_NEAR(least_shared, shared, 1);
        const bool waits =
            policy == ShardPolicy::kKeepWeights && dp_shard > 1 && micro_batches == 1;
        EXPECT_EQ(shared > 0, waits);
      }
    }
  }
}

}  // namespace
}  // namespace gimbal
