#include "gimbal/profile/memory.h"

#include <gtest/gtest.h>

#include <vector>

#include "gimbal/base/error.h"

namespace gimbal {
namespace {

TEST(Memory, PeakGrowsWithTheProcess) {
  reset_peak_resident_bytes();
  const std::int64_t before = peak_resident_bytes();
  EXPECT_GT(before, 1 << 20);
  constexpr std::size_t kBytes = std::size_t{64} << 20;
  const std::vector<char> large(kBytes, 1);
  // Other pages may be given back at the same time: a little less than the whole counts.
  EXPECT_GE(peak_resident_bytes(), before + static_cast<std::int64_t>(large.size()) * 9 / 10);
}

ModelDesc three_blocks() {
  ModelDesc model;
  for (const auto kind : {BlockKind::kVisionLayer, BlockKind::kTextLayer, BlockKind::kTextLayer}) {
    BlockDesc block;
    block.kind = kind;
    block.num_parameters = 100;
    block.saved_values_per_row = 10;
    block.output_values_per_row = 2;
    model.blocks.push_back(block);
  }
  return model;
}

const WorkSize kWork{.text_rows = 10, .vision_tiles = 3};

TEST(Memory, EstimateCountsWhatTrainingHolds) {
  MemorySetting setting;
  setting.frozen = {false, false, false};
  setting.full_recompute = {false, false, false};
  const MemoryEstimate estimate = estimate_training_memory(three_blocks(), kWork, setting);
  EXPECT_EQ(estimate.parameter_bytes, 300 * 4);
  EXPECT_EQ(estimate.gradient_bytes, 300 * 4);
  EXPECT_EQ(estimate.optimizer_bytes, 300 * 8);
  EXPECT_EQ(estimate.activation_bytes, (30 + 100 + 100) * 4);
  EXPECT_EQ(estimate.total_bytes(), 300 * 16 + 230 * 4);
}

TEST(Memory, EstimateOfFrozenRecomputedAndHalfPrecision) {
  MemorySetting setting;
  setting.compute_bytes = 2;
  setting.frozen = {true, false, false};
  setting.full_recompute = {false, true, true};
  const MemoryEstimate estimate = estimate_training_memory(three_blocks(), kWork, setting);
  EXPECT_EQ(estimate.parameter_bytes, 300 * 6);
  EXPECT_EQ(estimate.gradient_bytes, 200 * 4);
  EXPECT_EQ(estimate.optimizer_bytes, 200 * 8);
  // Inputs of both text layers (3 x 2, 10 x 2), one layer's saved values; none of the frozen
  // prefix.
  EXPECT_EQ(estimate.activation_bytes, (6 + 20 + 100) * 2);
  EXPECT_THROW(estimate_training_memory(three_blocks(), kWork, MemorySetting{}), InternalError);
}

}  // namespace
}  // namespace gimbal
