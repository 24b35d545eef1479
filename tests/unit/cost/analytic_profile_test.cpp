#include <gmock/gmock.h>

#include "gimbal/cost/hardware.h"
#include "gimbal/cost/model_fingerprint.h"
#include "unit/balance/check_cases.h"
#include "unit/cost/test_models.h"

namespace gimbal {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::LayerShape;
using testing::round_machine;
using testing::text_model;

constexpr std::size_t kKeep = 0, kAttention = 1, kMlp = 2, kFull = 3;

// Width 8, feed-forward 32, gated; rates 5e11, 2.5e11 FLOP/s and 8e10 bytes/s.
TEST(AnalyticProfile, OfATextLayerIsWhatOneCountsByHand) {
  const ProfileTable table = analytic_profile(text_model(2, {}, 100), round_machine(), "bfloat16");
  const BlockCost& layer = table.block("text_layer");
  // Parameters 4 * 64 and 3 * 8 * 32; values kept 50 and 112, 2 bytes each; output 8.
  const double attention = 2 * 256 / 5e11, mlp = 2 * 768 / 5e11;
  const double moved_attention = 50 * 2 / 8e10, moved_mlp = 112 * 2 / 8e10;
  const double output = 8 * 2 / 8e10;
  EXPECT_DOUBLE_EQ(layer.forward.per_row,
                   attention + mlp + 2 * (moved_attention + moved_mlp + output));
  EXPECT_DOUBLE_EQ(layer.forward.per_pair, 2 * 8 / 2.5e11);
  EXPECT_DOUBLE_EQ(layer.backward_input.per_row,
                   attention + mlp + 3 * (moved_attention + moved_mlp) + 2 * output);
  EXPECT_DOUBLE_EQ(layer.backward_input.per_pair, 2.5 * 2 * 8 / 2.5e11);
  EXPECT_DOUBLE_EQ(layer.backward_weight.per_row, attention + mlp);
  EXPECT_EQ(layer.backward_weight.per_pair, 0);
  EXPECT_EQ(layer.recompute[kKeep], CostLine{});
  EXPECT_DOUBLE_EQ(layer.recompute[kAttention].per_row, attention + 2 * moved_attention);
  EXPECT_DOUBLE_EQ(layer.recompute[kAttention].per_pair, layer.forward.per_pair);
  EXPECT_DOUBLE_EQ(layer.recompute[kMlp].per_row, mlp + 2 * moved_mlp);
  EXPECT_EQ(layer.recompute[kMlp].per_pair, 0);
  EXPECT_DOUBLE_EQ(layer.recompute[kFull].per_row,
                   attention + mlp + 2 * (moved_attention + moved_mlp));
  EXPECT_DOUBLE_EQ(layer.saved[kKeep].per_row, 162 * 2);
  EXPECT_DOUBLE_EQ(layer.saved[kAttention].per_row, (8 + 112) * 2);
  EXPECT_DOUBLE_EQ(layer.saved[kMlp].per_row, (50 + 8) * 2);
  EXPECT_DOUBLE_EQ(layer.saved[kFull].per_row, 8 * 2);
  EXPECT_DOUBLE_EQ(layer.forward_workspace.per_row, (112 - 8) * 2);
  EXPECT_DOUBLE_EQ(layer.backward_workspace[kKeep].per_row, 112 * 2);
  EXPECT_DOUBLE_EQ(layer.backward_workspace[kFull].per_row, (162 - 8 + 112) * 2);
  // Gradients of 1,040 parameters in bfloat16, until they are added to those of the step.
  EXPECT_EQ(layer.backward_workspace[kFull].base, 1040 * 2);
  EXPECT_DOUBLE_EQ(layer.output.per_row, 8 * 2);
}

TEST(AnalyticProfile, OfOtherBlocksIsWhatOneCountsByHand) {
  const ProfileTable table = analytic_profile(text_model(1, {}, 100), round_machine(), "bfloat16");
  // A lookup writes 8 values; backward adds them to the table.
  const double output = 8 * 2 / 8e10;
  EXPECT_DOUBLE_EQ(table.block("text_embed").forward.per_row, 2 * output);
  EXPECT_DOUBLE_EQ(table.block("text_embed").backward_weight.per_row, 3 * output);
  // Rows and their gradients, kept as they are, and 100 float32 logits per row.
  const double kept = 16 * 2 / 8e10, logits = 100 * 4 / 8e10, product = 2 * 100 * 8 / 5e11;
  const BlockCost& head = table.block("text_head");
  EXPECT_DOUBLE_EQ(head.forward.per_row, product + 2 * (kept + logits));
  EXPECT_DOUBLE_EQ(head.backward_input.per_row, product + 3 * (kept + logits));
  EXPECT_DOUBLE_EQ(head.backward_weight.per_row, product);
  EXPECT_DOUBLE_EQ(head.saved[kKeep].per_row, 16 * 2);
  // The weight's gradient: summed in float32 in forward, kept in bfloat16, once more in backward.
  EXPECT_DOUBLE_EQ(head.forward_workspace.base, 1024 * 100 * 4 * 3 + 800 * 4);
  EXPECT_DOUBLE_EQ(head.saved[kKeep].base, 800 * 2);
  EXPECT_DOUBLE_EQ(head.backward_workspace[kKeep].base, 800 * 2);
  // There is nothing to recompute: all levels are keep.
  EXPECT_EQ(head.saved[kFull], head.saved[kKeep]);
  EXPECT_EQ(head.recompute[kFull], CostLine{});
  // One part with something to recompute: all levels but keep are full.
  ModelDesc with_projector = text_model(1, {}, 100);
  with_projector.blocks.insert(
      with_projector.blocks.begin(),
      testing::plain_block(BlockKind::kProjector, "projector", 400, 800, 5, 30, 8));
  const BlockCost projector =
      analytic_profile(with_projector, round_machine(), "bfloat16").block("projector");
  EXPECT_DOUBLE_EQ(projector.saved[kFull].per_row, 5 * 2);
  EXPECT_EQ(projector.saved[kAttention], projector.saved[kFull]);
  EXPECT_EQ(projector.recompute[kMlp], projector.recompute[kFull]);
}

TEST(AnalyticProfile, CountsATileWithTheAttentionInsideIt) {
  const LayerShape vision = testing::small_vision();
  const ModelDesc model = testing::vision_text_model(1, vision, 1, {}, 100);
  const ProfileTable table = analytic_profile(model, round_machine(), "bfloat16");
  const BlockCost& layer = table.block("vision_layer");
  const double products = 5 * 2 * (4 * 36 + 3 * 6 * 24) / 5e11;
  const double attention = 4 * 6 * 25 / 2.5e11;
  const double moved = 5 * (6 * 6 + 2 + 2 * 6 + 3 * 24) * 2 / 8e10, output = 5 * 6 * 2 / 8e10;
  EXPECT_DOUBLE_EQ(layer.forward.per_row, products + attention + 2 * (moved + output));
  EXPECT_EQ(layer.forward.per_pair, 0);
}

TEST(AnalyticProfile, TakesTheFixedCostsOfTheMachine) {
  Hardware hardware = round_machine();
  hardware.launch_seconds = 8e-6;
  hardware.step_overhead = 3e-3;
  const ProfileTable table = analytic_profile(text_model(1, {}, 100), hardware, "bfloat16");
  const BlockCost& layer = table.block("text_layer");
  EXPECT_DOUBLE_EQ(layer.forward.base, 8e-6);
  EXPECT_DOUBLE_EQ(layer.backward_input.base + layer.backward_weight.base, 16e-6);
  EXPECT_DOUBLE_EQ(layer.recompute[kAttention].base, 4e-6);
  EXPECT_DOUBLE_EQ(layer.recompute[kFull].base, 8e-6);
  EXPECT_EQ(table.step_overhead, 3e-3);
}

TEST(AnalyticProfile, DescribesModelAndMachine) {
  const ModelDesc model = text_model(1, {}, 100);
  const Hardware hardware = find_hardware("a100-80g");
  const ProfileTable table = analytic_profile(model, hardware, "bfloat16");
  EXPECT_EQ(table.origin, "analytic");
  EXPECT_EQ(table.hardware, "a100-80g");
  EXPECT_EQ(table.model_fingerprint, model_fingerprint(model));
  EXPECT_EQ(table.value_bytes, 2);
  EXPECT_EQ(table.peak_flops, 312e12);
  EXPECT_EQ(table.memory_bytes, hardware.memory_bytes);
  EXPECT_EQ(table.notes, hardware.notes);
  // 34 bytes per parameter; 32 where there is no bfloat16 copy.
  EXPECT_DOUBLE_EQ(table.optimizer_per_parameter, 34 / (0.8 * 2.039e12));
  const ProfileTable exact = analytic_profile(model, hardware, "float32");
  EXPECT_DOUBLE_EQ(exact.optimizer_per_parameter, 32 / (0.8 * 2.039e12));
  EXPECT_EQ(exact.value_bytes, 4);
  EXPECT_DOUBLE_EQ(exact.block("text_layer").saved[0].per_row,
                   2 * table.block("text_layer").saved[0].per_row);
}

TEST(AnalyticProfile, RefusesADtypeWithoutPeak) {
  Hardware hardware = round_machine();
  hardware.peak_flops.erase("bfloat16");
  try {
    analytic_profile(text_model(1, {}, 100), hardware, "bfloat16");
    FAIL();
  } catch (const UserError& e) {
    EXPECT_THAT(e.what(),
                AllOf(HasSubstr("'round'"), HasSubstr("'bfloat16'"), HasSubstr("float32")));
  }
}

TEST(AnalyticProfile, NeverGetsCheaperWithALargerLayer) {
  testing::check_cases(100, [] {
    LayerShape small{.width = 8.0 * *testing::between(1, 20),
                     .ffn = 8.0 * *testing::between(1, 50)};
    small.kv_width = small.width;
    LayerShape large = small;
    large.ffn += 8;
    const auto cost = [](const LayerShape& shape) {
      return analytic_profile(text_model(1, shape, 64), round_machine(), "bfloat16")
          .block("text_layer");
    };
    RC_ASSERT(cost(small).forward.per_row < cost(large).forward.per_row);
    RC_ASSERT(cost(small).backward_input.per_row < cost(large).backward_input.per_row);
    RC_ASSERT(cost(small).saved[kKeep].per_row < cost(large).saved[kKeep].per_row);
    RC_ASSERT(cost(small).saved[kFull].per_row == cost(large).saved[kFull].per_row);
  });
}

}  // namespace
}  // namespace gimbal
