#include "gimbal/arch/model_desc.h"

#include <gtest/gtest.h>

#include "gimbal/base/error.h"

namespace gimbal {
namespace {

BlockDesc block(BlockKind kind, std::int64_t parameters, double per_row, double per_pair = 0) {
  BlockDesc desc;
  desc.name = "block";
  desc.kind = kind;
  desc.num_parameters = parameters;
  desc.flops_per_row = per_row;
  desc.flops_per_pair = per_pair;
  return desc;
}

const WorkSize kWork{.text_rows = 10, .text_pairs = 50, .loss_rows = 4, .vision_tiles = 3};

TEST(ModelDesc, CountsParameters) {
  ModelDesc model;
  EXPECT_EQ(model.num_parameters(), 0);
  model.blocks = {block(BlockKind::kTextEmbed, 5, 0), block(BlockKind::kTextHead, 7, 0)};
  EXPECT_EQ(model.num_parameters(), 12);
}

TEST(ModelDesc, ForwardUsesTheRowsOfTheKind) {
  for (const auto kind :
       {BlockKind::kVisionEmbed, BlockKind::kVisionLayer, BlockKind::kProjector}) {
    EXPECT_EQ(forward_flops(block(kind, 0, 100), kWork), 300);
  }
  for (const auto kind : {BlockKind::kTextEmbed, BlockKind::kTextNorm}) {
    EXPECT_EQ(forward_flops(block(kind, 0, 100), kWork), 1000);
  }
  EXPECT_EQ(forward_flops(block(BlockKind::kTextLayer, 0, 100, 2), kWork), 1100);
  EXPECT_EQ(forward_flops(block(BlockKind::kTextHead, 0, 100), kWork), 400);
}

TEST(ModelDesc, TrainingCountsWhatHasAGradient) {
  ModelDesc model;
  model.blocks = {block(BlockKind::kVisionLayer, 0, 100), block(BlockKind::kTextLayer, 0, 10, 2),
                  block(BlockKind::kTextHead, 0, 100)};
  // Forward: 300, 100 + 100, 400.
  EXPECT_EQ(training_flops(model, kWork, {false, false, false}), 3 * (300 + 200 + 400));
  // A frozen prefix has no backward.
  EXPECT_EQ(training_flops(model, kWork, {true, false, false}), 300 + 3 * (200 + 400));
  // A frozen layer behind a trainable one hands gradients on; its attention products keep both.
  EXPECT_EQ(training_flops(model, kWork, {false, true, false}), 900 + (2 * 100 + 3 * 100) + 1200);
  EXPECT_EQ(training_flops(model, kWork, {true, true, true}), 900);
  EXPECT_THROW(training_flops(model, kWork, {true}), InternalError);
}

}  // namespace
}  // namespace gimbal
