#include "gimbal/cost/cost_model.h"

#include <gmock/gmock.h>

#include <functional>

#include "gimbal/cost/communication.h"
#include "unit/balance/check_cases.h"
#include "unit/cost/test_models.h"

namespace gimbal {
namespace {

using ::testing::AllOf;
using testing::between;
using testing::check_cases;
using ::testing::HasSubstr;
using testing::LayerShape;
using testing::on_mesh;
using testing::round_machine;
using testing::small_vision;
using testing::text_model;

constexpr Recompute kLevels[] = {Recompute::kKeep, Recompute::kAttention, Recompute::kMlp,
                                 Recompute::kFull};
const WorkSize kWork{.text_rows = 100, .text_pairs = 3000, .loss_rows = 60, .vision_rows = 7};

CostModel costs_on(const ModelDesc& model, const CostSettings& settings) {
  return CostModel(model, analytic_profile(model, round_machine(), "bfloat16"), settings);
}

ModelDesc any_model() { return testing::vision_text_model(2, small_vision(), 2, {}, 100); }

WorkSize any_work() {
  return {.text_rows = 1.0 * *between(0, 10000),
          .text_pairs = 1.0 * *between(0, 1000000),
          .loss_rows = 1.0 * *between(0, 5000),
          .vision_rows = 1.0 * *between(0, 100)};
}

TEST(CostModel, OfOneDeviceIsTheProfile) {
  const ModelDesc model = any_model();
  const CostModel costs = costs_on(model, {});
  const ProfileTable& table = costs.profile();
  for (std::size_t b = 0; b < costs.num_blocks(); ++b) {
    const BlockCost& cost = table.block(model.blocks[b].cost_class);
    const double rows = work_rows(model.blocks[b], kWork);
    const double pairs = work_pairs(model.blocks[b], kWork);
    EXPECT_DOUBLE_EQ(costs.forward(b, kWork), cost.forward.at(rows, pairs));
    EXPECT_DOUBLE_EQ(costs.backward_weight(b, kWork), cost.backward_weight.at(rows, pairs));
    for (const Recompute level : costs.levels(b)) {
      const auto l = static_cast<std::size_t>(level);
      EXPECT_DOUBLE_EQ(costs.recompute(b, kWork, level), cost.recompute[l].at(rows, pairs));
      EXPECT_DOUBLE_EQ(costs.saved(b, kWork, level), cost.saved[l].at(rows, pairs));
      EXPECT_DOUBLE_EQ(costs.backward_workspace(b, kWork, level),
                       cost.backward_workspace[l].at(rows, pairs));
    }
    EXPECT_EQ(costs.forward_communication(b, kWork), 0);
    EXPECT_DOUBLE_EQ(costs.cut_bytes(b, kWork), 2 * cut_values(model, b, kWork));
  }
  EXPECT_EQ(costs.send_seconds(1000), 0);
}

TEST(CostModel, SplitsALayerOverTensorParallelRanks) {
  const ModelDesc model = text_model(1, {}, 100);
  CostSettings settings = on_mesh({.tp = 4});
  const CostModel one = costs_on(model, {}), four = costs_on(model, settings);
  const LinkCost link = round_machine().links.inside_node;
  // Two all-reduces of 100 rows of 8 bfloat16 values, forward and backward.
  const Seconds messages = 2 * all_reduce_seconds(link, 4, 100 * 8 * 2);
  const double share = 4 * 0.95 * 0.95;
  EXPECT_DOUBLE_EQ(four.forward_communication(1, kWork), messages);
  EXPECT_DOUBLE_EQ(four.backward_communication(1, kWork), messages);
  EXPECT_DOUBLE_EQ(four.forward(1, kWork), one.forward(1, kWork) / share + messages);
  EXPECT_DOUBLE_EQ(four.backward_input(1, kWork), one.backward_input(1, kWork) / share + messages);
  EXPECT_DOUBLE_EQ(four.backward_weight(1, kWork), one.backward_weight(1, kWork) / share);
  EXPECT_DOUBLE_EQ(four.backward(1, kWork),
                   four.backward_input(1, kWork) + four.backward_weight(1, kWork));
  EXPECT_DOUBLE_EQ(four.recompute(1, kWork, Recompute::kAttention),
                   one.recompute(1, kWork, Recompute::kAttention) / share + messages / 2);
  EXPECT_DOUBLE_EQ(four.recompute_communication(1, kWork, Recompute::kMlp), messages / 2);
  EXPECT_DOUBLE_EQ(four.recompute_communication(1, kWork, Recompute::kFull), messages);
  EXPECT_EQ(four.recompute_communication(1, kWork, Recompute::kKeep), 0);
  for (const Recompute level : kLevels) {
    EXPECT_DOUBLE_EQ(four.saved(1, kWork, level), one.saved(1, kWork, level) / 4);
    EXPECT_DOUBLE_EQ(four.backward_workspace(1, kWork, level),
                     one.backward_workspace(1, kWork, level) / 4);
  }
  EXPECT_DOUBLE_EQ(four.forward_workspace(1, kWork), one.forward_workspace(1, kWork) / 4);
  EXPECT_DOUBLE_EQ(four.cut_bytes(1, kWork), one.cut_bytes(1, kWork) / 4);
}

TEST(CostModel, WaitsForTheRankWithTheMostHeads) {
  ModelDesc model = testing::vision_text_model(1, small_vision(), 1, {}, 100);
  const CostModel even = costs_on(model, on_mesh({.tp = 4}));
  model.vision_heads = 25;  // 7, 6, 6, 6
  model.text_heads = 8;
  const CostModel uneven = costs_on(model, on_mesh({.tp = 4}));
  const double share = 4 * 0.95 * 0.95, more = 28 / 25.0 - 1;
  const auto& recompute = uneven.profile().block("vision_layer").recompute;
  const double attention = recompute[1].per_row, all = recompute[3].per_row;
  const BlockCost& cost = uneven.profile().block("vision_layer");
  EXPECT_NEAR(uneven.forward(1, kWork) / even.forward(1, kWork), 1, 0.12);
  // Differences of like numbers: 1e-9 of them is far above rounding.
  const auto more_of = [&](auto seconds) { return seconds(uneven) - seconds(even); };
  const Seconds forward = more_of([](const CostModel& c) { return c.forward(1, kWork); });
  EXPECT_NEAR(forward / (more * attention / all * cost.forward.at(7, 0) / share), 1, 1e-9);
  const Seconds again =
      more_of([](const CostModel& c) { return c.recompute(1, kWork, Recompute::kAttention); });
  EXPECT_NEAR(again / (more * attention * 7 / share), 1, 1e-9);
  EXPECT_EQ(uneven.recompute(1, kWork, Recompute::kMlp), even.recompute(1, kWork, Recompute::kMlp));
  EXPECT_GT(uneven.backward(1, kWork), even.backward(1, kWork));
  EXPECT_EQ(uneven.forward(3, kWork), even.forward(3, kWork));
}

TEST(CostModel, ExchangesHeadsUnderSequenceParallelism) {
  const ModelDesc model = testing::vision_text_model(1, small_vision(), 1, {}, 100);
  const std::size_t layer = 3;
  const CostModel one = costs_on(model, {}), two = costs_on(model, on_mesh({.sp = 2}));
  const LinkCost link = round_machine().links.inside_node;
  // q, k, v, result: 32 values of 2 bytes of 50 rows, in two messages.
  const Seconds messages = 2 * all_to_all_seconds(link, 2, 50 * 32 * 2 / 2);
  EXPECT_DOUBLE_EQ(two.forward_communication(layer, kWork), messages);
  EXPECT_DOUBLE_EQ(two.forward(layer, kWork), one.forward(layer, kWork) / 2 + messages);
  EXPECT_DOUBLE_EQ(two.recompute_communication(layer, kWork, Recompute::kAttention), messages);
  EXPECT_EQ(two.recompute_communication(layer, kWork, Recompute::kMlp), 0);
  // Tiles are whole: nothing is exchanged.
  EXPECT_EQ(two.forward_communication(1, kWork), 0);
  EXPECT_DOUBLE_EQ(two.forward(1, kWork), one.forward(1, kWork) / 2);
  EXPECT_DOUBLE_EQ(two.saved(1, kWork, Recompute::kKeep),
                   one.saved(1, kWork, Recompute::kKeep) / 2);
}

TEST(CostModel, RanksKeepWhatArchSaysBeyondTheirShare) {
  ModelDesc model = text_model(1, {}, 100);
  model.blocks[1].parts[0].gathered_values_per_row = 8;
  model.blocks[1].parts[0].attended_values_per_row = 8;
  model.blocks[1].parts[1].gathered_values_per_row = 8;
  const CostModel one = costs_on(model, {});
  const MeshShape mesh{.sp = 2, .tp = 2};
  const CostModel four = costs_on(model, on_mesh(mesh));
  const BlockDesc& layer = model.blocks[1];
  for (const Recompute level : kLevels) {
    const double beyond =
        rank_saved_values(layer, kWork, level, 2, 2) - saved_values(layer, kWork, level) / 4;
    EXPECT_NEAR(four.saved(1, kWork, level), one.saved(1, kWork, level) / 4 + 2 * beyond, 1e-6);
    const double again = rank_recomputed_values(layer, kWork, level, 2, 2) -
                         recomputed_values(layer, kWork, level) / 4;
    const Bytes fixed = one.backward_workspace(1, {}, level);
    EXPECT_NEAR(four.backward_workspace(1, kWork, level) - fixed / 2,
                (one.backward_workspace(1, kWork, level) - fixed) / 4 + 2 * again, 1e-6);
  }
  EXPECT_GT(four.saved(1, kWork, Recompute::kKeep), one.saved(1, kWork, Recompute::kKeep) / 4);
}

// 400 parameters of a projector that each rank has whole, 1,040 of a layer with 40 such.
TEST(CostModel, FixedBytesAreDividedLikeTheWeights) {
  ModelDesc model = text_model(1, {}, 100);
  model.blocks.insert(model.blocks.begin(),
                      testing::plain_block(BlockKind::kProjector, "projector", 400, 800, 5, 30, 8));
  model.blocks[0].num_uncut_parameters = 400;
  model.blocks[2].num_uncut_parameters = 40;
  model.tied_embeddings = true;
  const std::size_t head = model.blocks.size() - 1;
  model.blocks[head].num_parameters = 0;
  const CostModel one = costs_on(model, {}), four = costs_on(model, on_mesh({.tp = 4}));
  for (const Recompute level : kLevels) {
    const auto fixed = [&](const CostModel& costs, std::size_t block) {
      return costs.backward_workspace(block, {}, level);
    };
    EXPECT_DOUBLE_EQ(fixed(one, 0), 2 * 400);
    EXPECT_DOUBLE_EQ(fixed(four, 0), 2 * 400);
    EXPECT_DOUBLE_EQ(fixed(four, 2), 2 * (40 + 1000 / 4.0));
    EXPECT_GT(fixed(one, head), 0);
    EXPECT_DOUBLE_EQ(fixed(four, head), fixed(one, head) / 4);
  }
}

TEST(CostModel, SendsRowsToExpertsAndBack) {
  const LayerShape shape{.experts = 8, .experts_per_row = 2};
  const ModelDesc model = text_model(1, shape, 100);
  const CostModel costs = costs_on(model, on_mesh({.dp_shard = 4, .ep = 4}));
  // There and back: 100 rows, 2 experts, 8 values, 2 bytes.
  const Seconds messages =
      2 * all_to_all_seconds(round_machine().links.inside_node, 4, 100 * 2 * 8 * 2);
  EXPECT_DOUBLE_EQ(costs.forward_communication(1, kWork), messages);
  EXPECT_DOUBLE_EQ(costs.backward_communication(1, kWork), messages);
  EXPECT_DOUBLE_EQ(costs.recompute_communication(1, kWork, Recompute::kMlp), messages);
  EXPECT_EQ(costs.recompute_communication(1, kWork, Recompute::kAttention), 0);
}

TEST(CostModel, LeavesOutTheBackwardOfFrozenBlocks) {
  const ModelDesc model = any_model();
  CostSettings settings = on_mesh({.tp = 2});
  // A frozen tower in front, a frozen layer between trained ones.
  settings.frozen = {true, true, true, false, true, false, false, false};
  const CostModel costs = costs_on(model, settings);
  const CostModel all = costs_on(model, on_mesh({.tp = 2}));
  for (std::size_t b = 0; b < 3; ++b) {
    EXPECT_EQ(costs.backward(b, kWork), 0);
    EXPECT_EQ(costs.backward_communication(b, kWork), 0);
    EXPECT_EQ(costs.levels(b), std::vector<Recompute>{Recompute::kKeep});
    for (const Recompute level : kLevels) {
      EXPECT_EQ(costs.saved(b, kWork, level), 0);
      EXPECT_EQ(costs.recompute(b, kWork, level), 0);
      EXPECT_EQ(costs.backward_workspace(b, kWork, level), 0);
    }
    EXPECT_EQ(costs.forward(b, kWork), all.forward(b, kWork));
    EXPECT_GT(costs.forward_workspace(b, kWork), all.forward_workspace(b, kWork));
  }
  EXPECT_EQ(costs.backward_weight(4, kWork), 0);
  EXPECT_EQ(costs.backward_input(4, kWork), all.backward_input(4, kWork));
  EXPECT_EQ(costs.saved(4, kWork, Recompute::kKeep), all.saved(4, kWork, Recompute::kKeep));
  // The first trained block is an embedding: nothing before it needs gradients.
  EXPECT_EQ(costs.backward_input(3, kWork), 0);
  EXPECT_GT(costs.backward_weight(3, kWork), 0);
}

TEST(CostModel, SendsBetweenStagesOnTheSlowestLinkBetweenThem) {
  const ModelDesc model = text_model(2, {}, 100);
  // Machines of 4 devices.
  const auto link = [&](const MeshShape& mesh) {
    return costs_on(model, on_mesh(mesh)).pipeline_link().bytes_per_second;
  };
  EXPECT_EQ(link({.pp = 4}), 1e10);
  EXPECT_EQ(link({.pp = 2, .tp = 2}), 1e10);
  EXPECT_EQ(link({.pp = 2, .tp = 4}), 1e9);
  EXPECT_EQ(link({.pp = 4, .tp = 2}), 1e9);
  // 3 devices in one machine.
  EXPECT_EQ(link({.pp = 3}), 1e10);
  EXPECT_DOUBLE_EQ(costs_on(model, on_mesh({.pp = 2, .tp = 4})).send_seconds(5e8), 0.5);
}

TEST(CostModel, BuffersThreeMessagesForEachNeighbour) {
  EXPECT_EQ(message_buffer_bytes(0, 0, 1), 0);
  EXPECT_EQ(message_buffer_bytes(0, 7, 2), 21);
  // Stages of both sides are on the one other rank.
  EXPECT_EQ(message_buffer_bytes(5, 7, 2), 21);
  EXPECT_EQ(message_buffer_bytes(5, 7, 4), 36);
}

TEST(CostModel, MoreWorkIsNeverCheaper) {
  const ModelDesc model = any_model();
  check_cases(200, [&] {
    MeshShape mesh{.sp = 1 << *between(0, 3), .tp = 1 << *between(0, 3)};
    const CostModel costs = costs_on(model, on_mesh(mesh));
    const WorkSize work = any_work(), more = work + any_work();
    for (std::size_t b = 0; b < costs.num_blocks(); ++b) {
      RC_ASSERT(costs.forward(b, work) <= costs.forward(b, more));
      RC_ASSERT(costs.backward(b, work) <= costs.backward(b, more));
      RC_ASSERT(costs.cut_bytes(b, work) <= costs.cut_bytes(b, more));
      for (const Recompute level : kLevels) {
        RC_ASSERT(costs.saved(b, work, level) <= costs.saved(b, more, level));
        RC_ASSERT(costs.recompute(b, work, level) <= costs.recompute(b, more, level));
        RC_ASSERT(costs.backward_workspace(b, work, level) <=
                  costs.backward_workspace(b, more, level));
      }
    }
  });
}

TEST(CostModel, MoreRanksNeverComputeMore) {
  ModelDesc model = any_model();
  check_cases(200, [&] {
    // At least one head for each of 8 ranks, whether they divide the heads or not.
    model.vision_heads = *between(8, 30);
    model.text_heads = *between(8, 30);
    MeshShape mesh{.sp = 1 << *between(0, 3), .tp = 1 << *between(0, 3)};
    MeshShape wider = mesh;
    (*between(0, 2) == 0 ? wider.tp : wider.sp) *= 2;
    const CostModel a = costs_on(model, on_mesh(mesh)), b = costs_on(model, on_mesh(wider));
    const WorkSize work = any_work();
    const double slack = 1 + 1e-12;
    for (std::size_t i = 0; i < a.num_blocks(); ++i) {
      const auto compute = [&](const CostModel& costs) {
        return costs.forward(i, work) - costs.forward_communication(i, work) +
               costs.backward(i, work) - costs.backward_communication(i, work);
      };
      RC_ASSERT(compute(b) <= compute(a) * slack + 1e-18);
      RC_ASSERT(b.saved(i, work, Recompute::kKeep) <= a.saved(i, work, Recompute::kKeep) * slack);
      RC_ASSERT(b.state_bytes(i) <= a.state_bytes(i) * slack);
    }
  });
}

TEST(CostModel, LevelsThatABlockLacksCostAsFull) {
  ModelDesc model = any_model();
  model.blocks.insert(model.blocks.begin() + 3,
                      testing::plain_block(BlockKind::kProjector, "projector", 400, 800, 5, 30, 8));
  const CostModel costs = costs_on(model, {});
  const std::size_t projector = 3, head = costs.num_blocks() - 1;
  EXPECT_EQ(costs.levels(projector), (std::vector<Recompute>{Recompute::kKeep, Recompute::kFull}));
  EXPECT_EQ(costs.saved(projector, kWork, Recompute::kMlp),
            costs.saved(projector, kWork, Recompute::kFull));
  EXPECT_GT(costs.recompute(projector, kWork, Recompute::kAttention), 0);
  EXPECT_EQ(costs.levels(head), std::vector<Recompute>{Recompute::kKeep});
  EXPECT_EQ(costs.recompute(head, kWork, Recompute::kFull), 0);
}

std::string error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const UserError& e) {
    return e.what();
  }
  return "no error";
}

TEST(CostModel, RefusesAProfileThatDoesNotFit) {
  const ModelDesc model = text_model(1, {}, 100);
  ProfileTable table = analytic_profile(model, round_machine(), "bfloat16");
  EXPECT_THAT(error_of([&] { CostModel(text_model(2, {}, 100), table, {}); }),
              AllOf(HasSubstr("'round'"), HasSubstr("other sizes")));
  table.blocks.erase("text_head");
  EXPECT_THAT(error_of([&] { CostModel(model, table, {}); }), HasSubstr("'text_head'"));
}

TEST(CostModel, RefusesAMeshWithoutLinks) {
  const ModelDesc model = text_model(1, {}, 100);
  ProfileTable table = analytic_profile(model, round_machine(), "bfloat16");
  table.links.between_nodes.bytes_per_second = 0;
  CostModel(model, table, on_mesh({.tp = 4}));
  EXPECT_THAT(error_of([&] { CostModel(model, table, on_mesh({.pp = 2, .tp = 4})); }),
              AllOf(HasSubstr("between nodes"), HasSubstr("8 devices"), HasSubstr("pp 2")));
  table.links.inside_node.bytes_per_second = 0;
  EXPECT_THAT(error_of([&] { CostModel(model, table, on_mesh({.dp_shard = 2})); }),
              AllOf(HasSubstr("inside a node"), HasSubstr("dp_shard 2")));
}

}  // namespace
}  // namespace gimbal
