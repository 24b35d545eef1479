// What the partition takes to fit is what `fits` takes to fit.
#include <gtest/gtest.h>

#include <algorithm>
#include <optional>

#include "gimbal/plan/partition.h"
#include "unit/plan/methods_cases.h"

namespace gimbal {
namespace {

using testing::all_cuts;
using testing::between;
using testing::BlockCase;
using testing::check_cases;
using testing::cut_case;

/// A vision layer or none, embedding, layers and head, of whole bytes on each of two ranks.
std::vector<BlockCase> random_chain(bool tied) {
  std::vector<BlockCase> blocks;
  const auto add = [&](BlockKind kind) {
    BlockCase block;
    block.kind = kind;
    block.parameters = 2 * *between(1, 60);
    block.forward = *between(1, 100);
    block.saved = 10 * *between(0, 40);
    block.workspace = *between(0, 50);
    block.output = *between(1, 6);
    blocks.push_back(block);
  };
  if (*between(0, 2) == 0) add(BlockKind::kVisionLayer);
  add(BlockKind::kTextEmbed);
  for (int i = 0, count = *between(1, 4); i < count; ++i) add(BlockKind::kTextLayer);
  add(BlockKind::kTextHead);
  if (tied) blocks.back().parameters = 0;
  return blocks;
}

/// Of a stage, over all levels of its blocks with which stage_bytes fits.
std::optional<std::int64_t> least_stage_time(const CutProblem& cut, const PartitionProblem& problem,
                                             StageLayout layout, std::size_t stage) {
  const std::size_t begin = layout.stage_begin[stage], end = layout.stage_begin[stage + 1];
  std::vector<std::size_t> option(end - begin, 0);
  std::optional<std::int64_t> least;
  for (;;) {
    std::int64_t time = begin > 0 ? problem.blocks[begin - 1].cut_time : 0;
    if (end < problem.blocks.size()) time += problem.blocks[end - 1].cut_time;
    for (std::size_t i = begin; i < end; ++i) {
      layout.recompute[i] = cut.costs->levels(i)[option[i - begin]];
      time += problem.blocks[i].options[option[i - begin]].time;
    }
    if (stage_bytes(cut, layout, stage) <= cut.capacity && (!least || time < *least)) least = time;
    std::size_t digit = 0;
    while (digit < option.size() &&
           ++option[digit] == problem.blocks[begin + digit].options.size()) {
      option[digit++] = 0;
    }
    if (digit == option.size()) return least;
  }
}

/// Of all cuts and levels that fit.
std::optional<std::int64_t> least_cost(const CutProblem& cut, const PartitionProblem& problem) {
  std::optional<std::int64_t> least;
  for (const std::vector<std::size_t>& cuts : all_cuts(problem.blocks.size(), cut.num_stages)) {
    const StageLayout layout{cuts, std::vector<Recompute>(problem.blocks.size(), Recompute::kKeep)};
    std::int64_t sum = 0, longest = 0;
    bool all_fit = true;
    for (std::size_t stage = 0; stage < layout.num_stages() && all_fit; ++stage) {
      const auto time = least_stage_time(cut, problem, layout, stage);
      all_fit = time.has_value();
      sum += time.value_or(0);
      longest = std::max(longest, time.value_or(0));
    }
    const std::int64_t cost = sum + (cut.micro_batches - 1) * longest;
    if (all_fit && (!least || cost < *least)) least = cost;
  }
  return least;
}

/// Of its fullest stage.
Bytes bytes_of_random_layout(const CutProblem& cut) {
  StageLayout layout;
  layout.stage_begin = *rc::gen::elementOf(all_cuts(cut.costs->num_blocks(), cut.num_stages));
  for (std::size_t i = 0; i < cut.costs->num_blocks(); ++i) {
    const std::vector<Recompute>& levels = cut.costs->levels(i);
    layout.recompute.push_back(levels[*between<std::size_t>(0, levels.size())]);
  }
  Bytes bytes = 0;
  for (std::size_t stage = 0; stage < layout.num_stages(); ++stage)
    bytes = std::max(bytes, stage_bytes(cut, layout, stage));
  return bytes;
}

TEST(PartitionFits, PropertyTheBestLayoutThatFitsIsFound) {
  for (const ShardPolicy policy : {ShardPolicy::kReshard, ShardPolicy::kKeepWeights}) {
    for (const int dp_shard : {1, 2}) {
      for (const int micro_batches : {1, 4}) {
        check_cases(200, [&] {
          const bool tied = *between(0, 2) == 0;
          const std::vector<BlockCase> blocks = random_chain(tied);
          const int num_stages = *between(1, 4);
          CostSettings settings;
          settings.mesh.pp = num_stages;
          settings.mesh.dp_shard = dp_shard;
          settings.shard_policy = policy;
          testing::CutCase made =
              cut_case(blocks, num_stages, 0, {}, micro_batches, settings, tied);
          CutProblem& cut = made.problem;
          // What a layout needs to the byte, or one less.
          cut.capacity = bytes_of_random_layout(cut) - *between(0, 2);
          const PartitionProblem problem = partition_problem(cut);
          const auto found = solve_partition(problem);
          const auto least = least_cost(cut, problem);
          RC_ASSERT(found.has_value() == least.has_value());
          RC_ASSERT(found.has_value() == (problem.capacity >= least_capacity(problem)));
          if (!found) return;
          RC_ASSERT(found->cost == *least);
          RC_ASSERT(fits(cut, to_layout(*found, *cut.costs)));
        });
      }
    }
  }
}

TEST(PartitionFits, AStageHoldsItsOwnLargestBlocksNotTheModels) {
  // The large embedding is in the first stage; the second has room to keep everything.
  std::vector<BlockCase> blocks(4);
  const BlockKind kinds[] = {BlockKind::kTextEmbed, BlockKind::kTextLayer, BlockKind::kTextLayer,
                             BlockKind::kTextHead};
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    blocks[i].kind = kinds[i];
    blocks[i].parameters = i == 0 ? 400 : 100;
    blocks[i].forward = i == 0 ? 1 : 10;
    blocks[i].saved = i == 0 ? 0 : 1000;
  }
  CostSettings settings;
  settings.mesh.pp = 2;
  settings.mesh.dp_shard = 2;
  settings.shard_policy = ShardPolicy::kReshard;
  testing::CutCase made = cut_case(blocks, 2, 0, {2, 1}, 8, settings);
  CutProblem& cut = made.problem;
  const StageLayout kept{{0, 2, 4}, std::vector<Recompute>(4, Recompute::kKeep)};
  cut.capacity = std::max(stage_bytes(cut, kept, 0), stage_bytes(cut, kept, 1));
  const auto found = solve_partition(partition_problem(cut));
  ASSERT_TRUE(found);
  const StageLayout layout = to_layout(*found, *cut.costs);
  EXPECT_EQ(layout.stage_begin, kept.stage_begin);
  EXPECT_EQ(layout.recompute, kept.recompute);
}

}  // namespace
}  // namespace gimbal
