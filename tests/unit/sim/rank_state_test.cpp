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

TEST(RankState, ATiedHeadOnAnotherRankHasItsCopy) {
  ModelDesc model = small_model();
  const std::size_t head = model.blocks.size() - 1;
  model.blocks[head].num_parameters = 0;
  std::size_t embedding = 0;
  while (model.blocks[embedding].kind != BlockKind::kTextEmbed) ++embedding;
  const auto bytes_with = [&](bool tied, const std::vector<BlockSpan>& spans) {
    model.tied_embeddings = tied;
    const CostModel costs = costs_of(model, ShardPolicy::kKeepWeights, 1);
    return rank_state(costs, spans, 4).total();
  };
  const std::vector<BlockSpan> last{{embedding + 2, head + 1}};
  model.tied_embeddings = true;
  const CostModel costs = costs_of(model, ShardPolicy::kKeepWeights, 1);
  EXPECT_EQ(tied_embedding(costs), embedding);
  // Weights, gradient and moments.
  EXPECT_DOUBLE_EQ(bytes_with(true, last) - bytes_with(false, last), costs.state_bytes(embedding));
  EXPECT_GT(costs.state_bytes(embedding), 0);
  // Not where the embedding is: on the same rank, or where there is no head.
  const std::vector<BlockSpan> both{{0, embedding + 1}, {embedding + 2, head + 1}};
  EXPECT_EQ(bytes_with(true, both), bytes_with(false, both));
  EXPECT_EQ(bytes_with(true, {{0, head}}), bytes_with(false, {{0, head}}));
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
    if (tied) copy = costs.state_bytes(tied_embedding(costs));
  }
  EXPECT_EQ(peaks[0][0], peaks[1][0]);
  EXPECT_DOUBLE_EQ(peaks[1][1] - peaks[0][1], copy);
}

}  // namespace
}  // namespace gimbal
