#include <gtest/gtest.h>

#include "gimbal/cost/communication.h"
#include "unit/balance/check_cases.h"
#include "unit/cost/test_models.h"

namespace gimbal {
namespace {

using testing::between;
using testing::check_cases;
using testing::on_mesh;
using testing::round_machine;
using testing::text_model;

// A layer of 8 experts: 272 dense parameters, 8 * 768 of experts.
ModelDesc expert_model() { return text_model(1, {.experts = 8, .experts_per_row = 2}, 100); }

CostModel costs_on(const ModelDesc& model, const CostSettings& settings) {
  return CostModel(model, analytic_profile(model, round_machine(), "bfloat16"), settings);
}

TEST(BlockState, OfOneDeviceIsEighteenBytesPerParameter) {
  const ModelDesc model = text_model(1, {}, 100);
  const CostModel costs = costs_on(model, {});
  for (std::size_t b = 0; b < costs.num_blocks(); ++b)
    EXPECT_EQ(costs.state_bytes(b), 18.0 * static_cast<double>(model.blocks[b].num_parameters));
  EXPECT_EQ(costs.gathered_bytes(1), 0);
  EXPECT_EQ(costs.gather_seconds(1), 0);
  EXPECT_EQ(costs.reduce_seconds(1), 0);
  CostSettings exact;
  exact.state.compute = 0;
  EXPECT_EQ(costs_on(model, exact).state_bytes(1),
            16.0 * static_cast<double>(model.blocks[1].num_parameters));
}

// 1,040 parameters in the layer, 2 x 2 x 2 ranks, machines of 4.
TEST(BlockState, OfAShardedLayerIsWhatOneCountsByHand) {
  const ModelDesc model = text_model(1, {}, 100);
  ASSERT_EQ(model.blocks[1].num_parameters, 1040);
  CostSettings settings = on_mesh({.dp_replicate = 2, .dp_shard = 2, .tp = 2});
  const LinkTable links = round_machine().links;
  const double mine = 520;
  for (const ShardPolicy policy : {ShardPolicy::kKeepWeights, ShardPolicy::kReshard}) {
    settings.shard_policy = policy;
    const bool reshard = policy == ShardPolicy::kReshard;
    const CostModel costs = costs_on(model, settings);
    // Masters, gradients and moments in shards; the gathered copy is kept or comes and goes.
    EXPECT_DOUBLE_EQ(costs.state_bytes(1), (4 + 4 + 8) * mine / 2 + (reshard ? 0 : 2 * mine));
    EXPECT_DOUBLE_EQ(costs.gathered_bytes(1), reshard ? 2 * mine : 0);
    EXPECT_DOUBLE_EQ(costs.whole_gradient_bytes(1), 4 * mine);
    EXPECT_DOUBLE_EQ(costs.gather_seconds(1), all_gather_seconds(links.inside_node, 2, 2 * mine));
    EXPECT_DOUBLE_EQ(costs.reduce_seconds(1),
                     reduce_scatter_seconds(links.inside_node, 2, 4 * mine) +
                         all_reduce_seconds(links.between_nodes, 2, 4 * mine / 2));
    EXPECT_DOUBLE_EQ(costs.optimizer_seconds(1),
                     costs.profile().optimizer_per_parameter * mine / 2);
    // Gradients in bfloat16; the whole one that waits to be reduced counts as gathered.
    const WorkSize none;
    EXPECT_DOUBLE_EQ(costs.backward_workspace(1, none, Recompute::kKeep), 2 * mine);
  }
}

TEST(BlockState, OfAFrozenBlockIsItsMasterShardAndComputeCopy) {
  const ModelDesc model = text_model(1, {}, 100);
  CostSettings settings = on_mesh({.dp_shard = 4});
  settings.frozen.assign(model.blocks.size(), true);
  settings.frozen.back() = false;
  const CostModel kept = costs_on(model, settings);
  EXPECT_DOUBLE_EQ(kept.state_bytes(1), 4 * 1040 / 4.0 + 2 * 1040);
  EXPECT_EQ(kept.whole_gradient_bytes(1), 0);
  EXPECT_EQ(kept.gather_seconds(1), 0);
  EXPECT_EQ(kept.reduce_seconds(1), 0);
  EXPECT_EQ(kept.optimizer_seconds(1), 0);
  EXPECT_GT(kept.gather_seconds(model.blocks.size() - 1), 0);
  settings.shard_policy = ShardPolicy::kReshard;
  const CostModel sharded = costs_on(model, settings);
  EXPECT_DOUBLE_EQ(sharded.state_bytes(1), 4 * 1040 / 4.0);
  EXPECT_DOUBLE_EQ(sharded.gathered_bytes(1), 2 * 1040);
  EXPECT_GT(sharded.gather_seconds(1), 0);
}

TEST(BlockState, TensorParallelRanksHaveNormsWhole) {
  ModelDesc model = text_model(1, {}, 100);
  model.blocks[1].num_uncut_parameters = 40;
  EXPECT_DOUBLE_EQ(costs_on(model, on_mesh({.tp = 4})).state_bytes(1), 18 * (40 + 1000 / 4.0));
}

TEST(BlockState, ShardsExpertsOverTheirOwnRanks) {
  const ModelDesc model = expert_model();
  CostSettings settings = on_mesh({.dp_shard = 2, .sp = 2, .ep = 2});
  settings.shard_policy = ShardPolicy::kReshard;
  const CostModel costs = costs_on(model, settings);
  const double dense = 272, experts = 6144;
  ASSERT_EQ(model.blocks[1].num_parameters, 272 + 6144);
  EXPECT_DOUBLE_EQ(costs.state_bytes(1), 16 * (dense / 2 + experts / 2 / 2));
  EXPECT_DOUBLE_EQ(costs.gathered_bytes(1), 2 * (dense + experts / 2));
  EXPECT_DOUBLE_EQ(costs.whole_gradient_bytes(1), 4 * (dense + experts / 2));
  // Gradients of dense parameters are added over sp as well.
  const LinkCost link = round_machine().links.inside_node;
  EXPECT_DOUBLE_EQ(costs.reduce_seconds(1), reduce_scatter_seconds(link, 2, 4 * dense) +
                                                all_reduce_seconds(link, 2, 4 * dense / 2) +
                                                reduce_scatter_seconds(link, 2, 4 * experts / 2));
}

TEST(BlockState, OfAllRanksIsThatOfTheWholeModel) {
  const ModelDesc model = expert_model();
  check_cases(200, [&] {
    MeshShape mesh;
    mesh.dp_replicate = *between(1, 4);
    mesh.dp_shard = 1 << *between(0, 4);
    mesh.sp = 1 << *between(0, 3);
    mesh.tp = 1 << *between(0, 4);
    do {
      mesh.ep = 1 << *between(0, 4);
    } while (mesh.dp_shard * mesh.sp % mesh.ep != 0);
    CostSettings settings = on_mesh(mesh);
    settings.shard_policy = ShardPolicy::kReshard;
    const CostModel costs = costs_on(model, settings);
    for (std::size_t b = 0; b < costs.num_blocks(); ++b) {
      const auto experts = static_cast<double>(model.blocks[b].num_expert_parameters);
      const double dense = static_cast<double>(model.blocks[b].num_parameters) - experts;
      // Each replica holds all; dense parameters are there once per sequence-parallel rank.
      const double copies = mesh.dp_replicate * (mesh.sp * dense + experts);
      double whole = 16 * copies;
      // A compute copy that is not gathered stays.
      if (mesh.dp_shard == 1) whole += 2 * mesh.dp_replicate * mesh.sp * dense;
      if (mesh.dp_shard * mesh.sp == mesh.ep) whole += 2 * mesh.dp_replicate * experts;
      RC_ASSERT(std::abs(mesh.devices() * costs.state_bytes(b) - whole) <= 1e-9 * whole);
    }
    settings.shard_policy = ShardPolicy::kKeepWeights;
    const CostModel kept = costs_on(model, settings);
    for (std::size_t b = 0; b < costs.num_blocks(); ++b)
      RC_ASSERT(kept.state_bytes(b) >= costs.state_bytes(b));
  });
}

}  // namespace
}  // namespace gimbal
