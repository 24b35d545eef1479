#include "gimbal/sim/rank_state.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "gimbal/sim/step.h"
#include "sim/sim_models.h"

namespace gimbal {
namespace {

using testing::settings_for;
using testing::small_model;
using testing::small_profile;

CostModel costs_of(const ModelDesc& model, ShardPolicy policy, int dp_shard) {
  return CostModel(model, small_profile(), settings_for({.pp = 2, .dp_shard = dp_shard}, policy));
}

Bytes sum_of(const CostModel& costs, Bytes (CostModel::*bytes)(std::size_t) const) {
  Bytes sum = 0;
  for (std::size_t i = 0; i < costs.num_blocks(); ++i) sum += (costs.*bytes)(i);
  return sum;
}

Bytes two_largest(const CostModel& costs, Bytes (CostModel::*bytes)(std::size_t) const) {
  std::vector<Bytes> values;
  for (std::size_t i = 0; i < costs.num_blocks(); ++i) values.push_back((costs.*bytes)(i));
  std::sort(values.rbegin(), values.rend());
  return values[0] + values[1];
}

TEST(RankState, ReshardedWeightsAreThereTwoBlocksAtATime) {
  const CostModel costs = costs_of(small_model(), ShardPolicy::kReshard, 2);
  for (const int micro_batches : {1, 4}) {
    const RankState state = rank_state(costs, {{0, costs.num_blocks()}}, micro_batches);
    EXPECT_DOUBLE_EQ(state.state, sum_of(costs, &CostModel::state_bytes));
    EXPECT_DOUBLE_EQ(state.gathered, two_largest(costs, &CostModel::gathered_bytes) +
                                         two_largest(costs, &CostModel::whole_gradient_bytes));
    EXPECT_GT(state.gathered, 0);
  }
}

TEST(RankState, KeptWeightsHaveWholeGradientsUntilTheLastBackward) {
  const CostModel costs = costs_of(small_model(), ShardPolicy::kKeepWeights, 2);
  const std::vector<BlockSpan> all{{0, costs.num_blocks()}};
  EXPECT_DOUBLE_EQ(rank_state(costs, all, 4).gathered,
                   sum_of(costs, &CostModel::whole_gradient_bytes));
  // The only backward reduces block after block.
  EXPECT_DOUBLE_EQ(rank_state(costs, all, 1).gathered,
                   two_largest(costs, &CostModel::whole_gradient_bytes));
  EXPECT_EQ(rank_state(costs_of(small_model(), ShardPolicy::kKeepWeights, 1), all, 4).gathered, 0);
}

/// By the rule, of a rank that holds these blocks; `waiting`: whose gradients wait.
Bytes bytes_of(const CostModel& costs, const std::vector<std::size_t>& blocks,
               const std::vector<std::size_t>& waiting) {
  Bytes bytes = 0;
  std::vector<Bytes> copies(2), gradients(2);
  for (const std::size_t i : blocks) {
    bytes += costs.state_bytes(i);
    copies.push_back(costs.gathered_bytes(i));
    const bool waits = std::ranges::find(waiting, i) != waiting.end();
    if (waits) bytes += costs.whole_gradient_bytes(i);
    gradients.push_back(waits ? 0 : costs.whole_gradient_bytes(i));
  }
  std::sort(copies.rbegin(), copies.rend());
  std::sort(gradients.rbegin(), gradients.rend());
  return bytes + copies[0] + copies[1] + gradients[0] + gradients[1];
}

TEST(RankState, ATiedEmbeddingCountsWhereTheHeadIs) {
  ModelDesc model = small_model();
  const std::size_t head = model.blocks.size() - 1;
  model.blocks[head].num_parameters = 0;
  std::size_t embedding = 0;
  while (model.blocks[embedding].kind != BlockKind::kTextEmbed) ++embedding;
  for (const ShardPolicy policy : {ShardPolicy::kReshard, ShardPolicy::kKeepWeights}) {
    for (const int dp_shard : {1, 2}) {
      for (const int micro_batches : {1, 4}) {
        const bool keep = policy == ShardPolicy::kKeepWeights;
        SCOPED_TRACE(::testing::Message() << (keep ? "keep" : "reshard") << ", dp_shard "
                                          << dp_shard << ", " << micro_batches);
        const auto bytes_with = [&](bool tied, const std::vector<BlockSpan>& spans) {
          model.tied_embeddings = tied;
          return rank_state(costs_of(model, policy, dp_shard), spans, micro_batches).total();
        };
        model.tied_embeddings = true;
        const CostModel costs = costs_of(model, policy, dp_shard);
        EXPECT_EQ(tied_embedding(costs.model()), embedding);
        // On another rank: a copy with weights, gradient and moments.
        const std::vector<BlockSpan> last{{embedding + 2, head + 1}};
        std::vector<std::size_t> held{embedding};
        for (std::size_t i = embedding + 2; i <= head; ++i) held.push_back(i);
        const bool all_wait = keep && micro_batches > 1;
        const std::vector<std::size_t> none;
        EXPECT_DOUBLE_EQ(bytes_with(true, last), bytes_of(costs, held, all_wait ? held : none));
        EXPECT_GE(bytes_with(true, last) - bytes_with(false, last), costs.state_bytes(embedding));
        EXPECT_GT(costs.state_bytes(embedding), 0);
        // On the rank of the embedding: no copy, but the one backward of a step keeps its gradient.
        const std::vector<BlockSpan> both{{0, embedding + 1}, {embedding + 2, head + 1}};
        for (std::size_t i = 0; i < embedding; ++i) held.push_back(i);
        const std::vector<std::size_t> tied_one{embedding};
        const std::vector<std::size_t>& waiting = all_wait ? held : keep ? tied_one : none;
        EXPECT_DOUBLE_EQ(bytes_with(true, both), bytes_of(costs, held, waiting));
        EXPECT_EQ(bytes_with(true, both) > bytes_with(false, both),
                  keep && dp_shard > 1 && micro_batches == 1);
        // Nothing where there is no head.
        EXPECT_EQ(bytes_with(true, {{0, head}}), bytes_with(false, {{0, head}}));
      }
    }
  }
}

TEST(RankState, TheSimulationsPeakHasTheTiedCopy) {
  ModelDesc model = small_model();
  model.blocks.back().num_parameters = 0;
  const Schedule schedule = make_schedule({PipelineKind::kOneFOneB, 2, 1, 4});
  const std::vector<WorkSize> work(4, testing::work_of(2, 100));
  std::vector<std::vector<Bytes>> peaks;
  Bytes copy = 0;
  for (const bool tied : {false, true}) {
    model.tied_embeddings = tied;
    const CostModel costs = costs_of(model, ShardPolicy::kKeepWeights, 1);
    StageLayout layout = testing::even_layout(costs.num_blocks(), 2);
    layout.stage_begin[1] = costs.num_blocks() - 2;
    peaks.push_back(simulate_step({&costs, &layout, &schedule, work}).peak_bytes);
    if (tied) copy = costs.state_bytes(tied_embedding(model));
  }
  EXPECT_EQ(peaks[0][0], peaks[1][0]);
  EXPECT_DOUBLE_EQ(peaks[1][1] - peaks[0][1], copy);
}

}  // namespace
}  // namespace gimbal
