#include <gtest/gtest.h>

#include <algorithm>

#include "balance/check_cases.h"
#include "gimbal/base/error.h"
#include "sim/sim_models.h"

namespace gimbal {
namespace {

using testing::between;
using testing::even_layout;
using testing::settings_for;
using testing::small_model;
using testing::small_profile;
using testing::work_of;

StageLayout random_layout(std::size_t num_blocks, int num_stages) {
  StageLayout layout = even_layout(num_blocks, num_stages);
  for (Recompute& level : layout.recompute) level = static_cast<Recompute>(*between(0, 4));
  return layout;
}

void expect_near(double value, double expected) {
  RC_ASSERT(std::abs(value - expected) <= 1e-12 * (1 + std::abs(expected)));
}

TEST(StageWorkProperty, AddsUpItsBlocks) {
  testing::check_cases(100, [] {
    CostSettings settings = settings_for({.tp = 2});
    const ModelDesc model = small_model(*between(0, 4), *between(1, 5));
    settings.frozen.assign(model.blocks.size(), false);
    for (std::size_t b = 0; b < settings.frozen.size(); ++b) {
      settings.frozen[b] = *between(0, 3) == 0;
    }
    settings.frozen.back() = false;
    const CostModel costs(model, small_profile(), settings);
    const StageLayout layout = random_layout(costs.num_blocks(), *between(1, 4));
    const WorkSize work = work_of(*between(0, 20), *between(1, 4000));
    for (std::size_t stage = 0; stage < layout.num_stages(); ++stage) {
      StageWork expected;
      const std::size_t end = layout.stage_begin[stage + 1];
      for (std::size_t b = layout.stage_begin[stage]; b < end; ++b) {
        const Recompute level = layout.recompute[b];
        expected.forward += costs.forward(b, work);
        expected.backward += costs.backward(b, work) + costs.recompute(b, work, level);
        expected.backward_input += costs.backward_input(b, work) + costs.recompute(b, work, level);
        expected.backward_weight += costs.backward_weight(b, work);
        expected.saved += costs.saved(b, work, level);
        expected.forward_workspace =
            std::max(expected.forward_workspace, costs.forward_workspace(b, work));
        expected.backward_workspace =
            std::max(expected.backward_workspace, costs.backward_workspace(b, work, level));
      }
      if (end < costs.num_blocks()) expected.send = costs.cut_bytes(end - 1, work);
      const StageWork found = stage_work(costs, layout, stage, work);
      expect_near(found.forward, expected.forward);
      expect_near(found.backward, expected.backward);
      expect_near(found.backward_input, expected.backward_input);
      expect_near(found.backward_weight, expected.backward_weight);
      expect_near(found.saved, expected.saved);
      RC_ASSERT(found.forward_workspace == expected.forward_workspace);
      RC_ASSERT(found.backward_workspace == expected.backward_workspace);
      RC_ASSERT(found.send == expected.send);
    }
  });
}

/// One stage of six equal text layers, gathered over two ranks.
class GatheredStage : public ::testing::Test {
 protected:
  GatheredStage()
      : costs_(small_model(0, 6), small_profile(),
               settings_for({.dp_shard = 2}, ShardPolicy::kReshard)),
        layout_{{0, kFirst, kFirst + 6, costs_.num_blocks()},
                std::vector<Recompute>(costs_.num_blocks(), Recompute::kFull)} {}

  static constexpr std::size_t kFirst = 3;  // after vision.embed, projector, text.embed
  CostModel costs_;
  StageLayout layout_;
};

TEST_F(GatheredStage, LongBlocksHideAllButTheFirstGather) {
  const WorkSize work = work_of(0, 2000);
  const Seconds gather = costs_.gather_seconds(kFirst);
  const Seconds forward = costs_.forward(kFirst, work);
  const Seconds recompute = costs_.recompute(kFirst, work, Recompute::kFull);
  ASSERT_GT(gather, 0);
  ASSERT_GT(forward, gather);
  const StageWork stage = stage_work(costs_, layout_, 1, work);
  EXPECT_NEAR(stage.forward, gather + 6 * forward, 1e-12);
  // The reduction of a block's gradients goes the way of the gathers.
  const Seconds scatter = costs_.reduce_seconds(kFirst);
  const Seconds backward = costs_.backward(kFirst, work) + recompute;
  ASSERT_GT(backward, gather + scatter);
  EXPECT_NEAR(stage.backward, gather + scatter + 6 * backward, 1e-12);
  EXPECT_NEAR(stage.backward_input, gather + 6 * (costs_.backward_input(kFirst, work) + recompute),
              1e-12);
  ASSERT_GT(costs_.backward_weight(kFirst, work), scatter);
  EXPECT_NEAR(stage.backward_weight, scatter + 6 * costs_.backward_weight(kFirst, work), 1e-12);
}

TEST_F(GatheredStage, ShortBlocksWaitForEachGather) {
  const WorkSize work = work_of(0, 1);
  const Seconds gather = costs_.gather_seconds(kFirst);
  const Seconds backward = costs_.backward(kFirst, work);
  ASSERT_LT(backward, gather);
  const StageWork stage = stage_work(costs_, layout_, 1, work);
  EXPECT_NEAR(stage.forward, 6 * gather + costs_.forward(kFirst, work), 1e-12);
  EXPECT_NEAR(stage.backward,
              6 * (gather + costs_.reduce_seconds(kFirst)) + backward +
                  costs_.recompute(kFirst, work, Recompute::kFull),
              1e-12);
}

/// Layer, wide head: the head's gather waits for the second-last layer, whose buffer it takes.
TEST(StageWork, HoldsTwoGatheredCopiesAtMost) {
  ModelDesc model = small_model(0, 3);
  model.blocks.erase(model.blocks.begin(), model.blocks.begin() + 3);  // layers, norm, head
  model.blocks.erase(model.blocks.begin() + 3);                        // layers, head
  model.blocks[1].num_parameters = 1;                                  // a short gather
  const CostModel costs(model, small_profile(),
                        settings_for({.dp_shard = 2}, ShardPolicy::kReshard));
  const StageLayout layout = even_layout(4, 1);
  const WorkSize work = work_of(0, 10);
  std::vector<Seconds> done;  // ends of the blocks
  Seconds gathered = 0;
  for (std::size_t b = 0; b < 4; ++b) {
    if (b >= 2) gathered = std::max(gathered, done[b - 2]);
    gathered += costs.gather_seconds(b);
    done.push_back(std::max(gathered, b > 0 ? done[b - 1] : 0) + costs.forward(b, work));
  }
  EXPECT_NEAR(stage_work(costs, layout, 0, work).forward, done[3], 1e-12);
}

TEST(StageWork, FrozenFrontHasNoBackwardAndIsNotGatheredForIt) {
  CostSettings settings = settings_for({.dp_shard = 2}, ShardPolicy::kReshard);
  const ModelDesc model = small_model(3, 2);
  settings.frozen.assign(model.blocks.size(), false);
  std::fill_n(settings.frozen.begin(), 4, true);  // the vision tower
  const CostModel costs(model, small_profile(), settings);
  const StageLayout layout{{0, 4, model.blocks.size()},
                           std::vector<Recompute>(model.blocks.size(), Recompute::kFull)};
  const StageWork stage = stage_work(costs, layout, 0, work_of(4, 100));
  EXPECT_GT(stage.forward, 0);
  EXPECT_EQ(stage.backward, 0);
  EXPECT_EQ(stage.backward_input, 0);
  EXPECT_EQ(stage.backward_weight, 0);
}

TEST(StageWork, IsAnInternalErrorForALayoutOfAnotherModel) {
  const CostModel costs(small_model(), small_profile(), settings_for({}));
  StageLayout layout = even_layout(costs.num_blocks(), 2);
  EXPECT_THROW(stage_work(costs, layout, 2, work_of(1, 1)), InternalError);
  layout.recompute.pop_back();
  EXPECT_THROW(stage_work(costs, layout, 0, work_of(1, 1)), InternalError);
  layout = even_layout(costs.num_blocks(), 2);
  layout.stage_begin[1] = 0;
  EXPECT_THROW(stage_work(costs, layout, 0, work_of(1, 1)), InternalError);
  layout = even_layout(costs.num_blocks() - 1, 2);
  layout.recompute.resize(costs.num_blocks());
  EXPECT_THROW(stage_work(costs, layout, 0, work_of(1, 1)), InternalError);
}

}  // namespace
}  // namespace gimbal
