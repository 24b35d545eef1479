#include "gimbal/arch/model_desc.h"

#include <gtest/gtest.h>

#include "gimbal/base/error.h"

namespace gimbal {
namespace {

PartDesc part(const std::string& name, double products, double attention_per_row = 0,
              double attention_per_pair = 0) {
  PartDesc desc;
  desc.name = name;
  desc.product_flops_per_row = products;
  desc.attention_flops_per_row = attention_per_row;
  desc.attention_flops_per_pair = attention_per_pair;
  return desc;
}

BlockDesc block(BlockKind kind, double products, double per_pair = 0) {
  BlockDesc desc;
  desc.name = "block";
  desc.kind = kind;
  desc.parts = {part("all", products, 0, per_pair)};
  return desc;
}

// Attention: 2 of 7 values a row are its input; mlp: 3 of 11.
BlockDesc two_parts() {
  BlockDesc desc;
  desc.name = "text.0";
  desc.kind = BlockKind::kTextLayer;
  desc.parts = {part("attention", 100, 7, 2), part("mlp", 50)};
  desc.parts[0].input_values_per_row = 2;
  desc.parts[0].saved_values_per_row = 7;
  desc.parts[1].input_values_per_row = 3;
  desc.parts[1].saved_values_per_row = 11;
  return desc;
}

const WorkSize kWork{
    .text_rows = 10, .text_pairs = 50, .loss_rows = 4, .vision_rows = 3, .vision_pairs = 9};

TEST(ModelDesc, CountsParameters) {
  ModelDesc model;
  EXPECT_EQ(model.num_parameters(), 0);
  model.blocks = {block(BlockKind::kTextEmbed, 0), block(BlockKind::kTextHead, 0)};
  model.blocks[0].num_parameters = 5;
  model.blocks[1].num_parameters = 7;
  EXPECT_EQ(model.num_parameters(), 12);
}

TEST(ModelDesc, WorkIsLinear) {
  const WorkSize sum = kWork + 2 * kWork;
  EXPECT_EQ(sum.text_rows, 30);
  EXPECT_EQ(sum.text_pairs, 150);
  EXPECT_EQ(sum.loss_rows, 12);
  EXPECT_EQ(sum.vision_rows, 9);
  EXPECT_EQ(sum.vision_pairs, 27);
}

TEST(ModelDesc, ForwardUsesTheRowsAndPairsOfTheKind) {
  for (const auto kind : {BlockKind::kVisionEmbed, BlockKind::kProjector})
    EXPECT_EQ(forward_flops(block(kind, 100, 1), kWork), 300);
  EXPECT_EQ(forward_flops(block(BlockKind::kVisionLayer, 100, 1), kWork), 309);
  for (const auto kind : {BlockKind::kTextEmbed, BlockKind::kTextNorm})
    EXPECT_EQ(forward_flops(block(kind, 100, 1), kWork), 1000);
  EXPECT_EQ(forward_flops(block(BlockKind::kTextLayer, 100, 2), kWork), 1100);
  EXPECT_EQ(forward_flops(block(BlockKind::kTextHead, 100), kWork), 400);
  EXPECT_EQ(forward_flops(two_parts(), kWork), 157 * 10 + 2 * 50);
}

TEST(ModelDesc, BackwardCountsProductsPerGradientAndAttentionTwice) {
  const double products = 150 * 10, attention = 7 * 10 + 2 * 50;
  const BlockDesc layer = two_parts();
  EXPECT_EQ(backward_flops(layer, kWork, {true, true}), 2 * products + 2 * attention);
  EXPECT_EQ(backward_flops(layer, kWork, {false, true}), products + 2 * attention);
  EXPECT_EQ(backward_flops(layer, kWork, {true, false}), products + 2 * attention);
  EXPECT_EQ(backward_flops(layer, kWork, {false, false}), 0);
}

bool same(const GradientNeed& need, bool weights, bool inputs) {
  return need.weights == weights && need.inputs == inputs;
}

TEST(ModelDesc, GradientNeedsFollowFrozenBlocks) {
  ModelDesc model;
  model.blocks = {block(BlockKind::kVisionEmbed, 0), block(BlockKind::kVisionLayer, 0),
                  block(BlockKind::kProjector, 0), block(BlockKind::kTextEmbed, 0),
                  block(BlockKind::kTextLayer, 0)};
  auto needs = gradient_needs(model, {false, false, false, false, false});
  EXPECT_TRUE(same(needs[0], true, false));  // pixels have no gradient
  EXPECT_TRUE(same(needs[1], true, true));
  EXPECT_TRUE(same(needs[3], true, true));  // hands visual rows' gradients on
  needs = gradient_needs(model, {true, true, false, true, true});
  EXPECT_TRUE(same(needs[0], false, false));
  EXPECT_TRUE(same(needs[1], false, false));
  EXPECT_TRUE(same(needs[2], true, true));
  EXPECT_TRUE(same(needs[4], false, true));
  needs = gradient_needs(model, {true, true, true, false, false});
  EXPECT_TRUE(same(needs[2], false, false));
  EXPECT_TRUE(same(needs[3], true, false));
  needs = gradient_needs(model, {true, true, true, true, true});
  for (const GradientNeed& need : needs) EXPECT_TRUE(same(need, false, false));
  model.blocks[1].unused = true;
  needs = gradient_needs(model, {false, false, false, false, false});
  EXPECT_TRUE(same(needs[1], false, false));
  EXPECT_TRUE(same(needs[2], true, true));
  EXPECT_THROW(gradient_needs(model, {true}), InternalError);
}

TEST(ModelDesc, TrainingCountsWhatHasAGradient) {
  ModelDesc model;
  model.blocks = {block(BlockKind::kVisionLayer, 100), block(BlockKind::kTextLayer, 10, 2),
                  block(BlockKind::kTextHead, 100)};
  // Forward: 300, 100 + 100, 400.
  EXPECT_EQ(training_flops(model, kWork, {false, false, false}), 3 * (300 + 200 + 400));
  // A frozen prefix has no backward.
  EXPECT_EQ(training_flops(model, kWork, {true, false, false}), 300 + 3 * (200 + 400));
  // A frozen layer behind a trainable one hands gradients on; its attention products keep both.
  EXPECT_EQ(training_flops(model, kWork, {false, true, false}), 900 + (2 * 100 + 3 * 100) + 1200);
  EXPECT_EQ(training_flops(model, kWork, {true, true, true}), 900);
  EXPECT_THROW(training_flops(model, kWork, {true}), InternalError);
}

using Levels = std::vector<Recompute>;

TEST(ModelDesc, LevelsAreThoseThatDiffer) {
  EXPECT_EQ(recompute_levels(two_parts()),
            (Levels{Recompute::kKeep, Recompute::kAttention, Recompute::kMlp, Recompute::kFull}));
  BlockDesc projector = block(BlockKind::kProjector, 1);
  EXPECT_EQ(recompute_levels(projector), Levels{Recompute::kKeep});
  projector.parts[0].saved_values_per_row = 3;
  EXPECT_EQ(recompute_levels(projector), (Levels{Recompute::kKeep, Recompute::kFull}));
  BlockDesc unused = two_parts();
  unused.unused = true;
  EXPECT_EQ(recompute_levels(unused), Levels{Recompute::kKeep});
  projector.parts.clear();
  EXPECT_THROW(recompute_levels(projector), InternalError);
}

TEST(ModelDesc, LevelsTradeValuesForWork) {
  const BlockDesc layer = two_parts();
  const auto saved = [&](Recompute level) { return saved_values(layer, kWork, level); };
  EXPECT_EQ(saved(Recompute::kKeep), 180);
  EXPECT_EQ(saved(Recompute::kAttention), (2 + 11) * 10);
  EXPECT_EQ(saved(Recompute::kMlp), (7 + 3) * 10);
  EXPECT_EQ(saved(Recompute::kFull), 20);
  const auto again = [&](Recompute level) { return recompute_flops(layer, kWork, level); };
  EXPECT_EQ(again(Recompute::kKeep), 0);
  EXPECT_EQ(again(Recompute::kAttention), 107 * 10 + 2 * 50);
  EXPECT_EQ(again(Recompute::kMlp), 500);
  EXPECT_EQ(again(Recompute::kFull), forward_flops(layer, kWork));
  EXPECT_EQ(recomputed_values(layer, kWork, Recompute::kKeep), 0);
  EXPECT_EQ(recomputed_values(layer, kWork, Recompute::kAttention), 50);
  EXPECT_EQ(recomputed_values(layer, kWork, Recompute::kMlp), 80);
  EXPECT_EQ(recomputed_values(layer, kWork, Recompute::kFull), 160);
}

TEST(ModelDesc, ALevelThatABlockLacksCountsAsFull) {
  BlockDesc projector = block(BlockKind::kProjector, 100);
  projector.parts[0].input_values_per_row = 1;
  projector.parts[0].saved_values_per_row = 4;
  for (const Recompute level : {Recompute::kAttention, Recompute::kMlp, Recompute::kFull}) {
    EXPECT_EQ(saved_values(projector, kWork, level), 3);
    EXPECT_EQ(recompute_flops(projector, kWork, level), 300);
    EXPECT_EQ(recomputed_values(projector, kWork, level), 9);
  }
  EXPECT_EQ(saved_values(projector, kWork, Recompute::kKeep), 12);
}

TEST(ModelDesc, ACutSendsTheOutputAndWhatIsCarried) {
  ModelDesc model;
  model.blocks = {block(BlockKind::kVisionLayer, 0), block(BlockKind::kTextLayer, 0)};
  for (BlockDesc& b : model.blocks) b.output_values_per_row = 5;
  model.blocks[1].carried_values_per_vision_row = 2;
  EXPECT_EQ(cut_values(model, 0, kWork), 15);
  EXPECT_EQ(cut_values(model, 1, kWork), 50 + 6);
  EXPECT_THROW(cut_values(model, 2, kWork), InternalError);
}

// What one of sp x tp ranks keeps of 10 rows. Attention: 7 values a row, of them 2 are gathered for
// the products, 3 are its result, 2 the keys and values of 2 heads; mlp: 11, of them 3 gathered.
TEST(ModelDesc, RanksKeepMoreThanTheirShareOfSomeValues) {
  BlockDesc layer = two_parts();
  layer.parts[0].gathered_values_per_row = 2;
  layer.parts[0].attended_values_per_row = 3;
  layer.parts[0].key_value_values_per_row = 2;
  layer.parts[0].num_key_value_heads = 2;
  layer.parts[1].gathered_values_per_row = 3;
  const auto kept = [&](Recompute level, int sp, int tp) {
    return rank_saved_values(layer, kWork, level, sp, tp);
  };
  EXPECT_DOUBLE_EQ(kept(Recompute::kKeep, 1, 1), 180);
  // tp: the gathered rows whole.
  EXPECT_DOUBLE_EQ(kept(Recompute::kKeep, 1, 2), 90 + (2 + 3) * 10 / 2.0);
  // sp: the result before and after its exchange.
  EXPECT_DOUBLE_EQ(kept(Recompute::kKeep, 2, 1), 90 + 3 * 10 / 2.0);
  // Both; and each of 4 ranks has one of 2 key-value heads.
  EXPECT_DOUBLE_EQ(kept(Recompute::kKeep, 2, 2), 45 + 5 * 10 / 4.0 + 3 * 10 / 4.0 + 2 * 10 / 4.0);
  // A recomputed part keeps its input's share.
  EXPECT_DOUBLE_EQ(kept(Recompute::kAttention, 2, 2), (2 + 11) * 10 / 4.0 + 3 * 10 / 4.0);
  EXPECT_DOUBLE_EQ(kept(Recompute::kFull, 2, 2), 2 * 10 / 4.0);
  EXPECT_DOUBLE_EQ(rank_recomputed_values(layer, kWork, Recompute::kFull, 2, 2),
                   kept(Recompute::kKeep, 2, 2) - kept(Recompute::kFull, 2, 2));
}

TEST(ModelDesc, TensorParallelRanksHaveSomeParametersWhole) {
  BlockDesc layer = two_parts();
  layer.num_parameters = 100;
  layer.num_expert_parameters = 30;
  layer.num_uncut_parameters = 10;
  EXPECT_DOUBLE_EQ(rank_dense_parameters(layer, 1), 70);
  EXPECT_DOUBLE_EQ(rank_dense_parameters(layer, 4), 10 + 60 / 4.0);
  // Keys and values of 2 heads go evenly onto 2 ranks, not onto 4.
  layer.num_key_value_parameters = 20;
  layer.parts[0].num_key_value_heads = 2;
  EXPECT_DOUBLE_EQ(rank_dense_parameters(layer, 1), 70);
  EXPECT_DOUBLE_EQ(rank_dense_parameters(layer, 2), 10 + 60 / 2.0);
  EXPECT_DOUBLE_EQ(rank_dense_parameters(layer, 4), 10 + 20 + 40 / 4.0);
}

}  // namespace
}  // namespace gimbal
