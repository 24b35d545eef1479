#include "gimbal/train/tape/block_levels.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "gimbal/base/error.h"
#include "train/small_models.h"
#include "unit/base/temp_folder.h"

namespace gimbal {
namespace {

using ::testing::HasSubstr;

std::map<std::string, Recompute> levels_of(const ModelConfig& config) {
  const Model model = make_model(small_models::internvl_config("qwen2", false), "test");
  std::map<std::string, Recompute> levels;
  const std::vector<Recompute> all = block_levels(config, model.desc);
  for (std::size_t i = 0; i < all.size(); ++i) levels[model.blocks[i]->name()] = all[i];
  return levels;
}

TEST(BlockLevels, KeepIsTheDefault) {
  for (const auto& [name, level] : levels_of({})) EXPECT_EQ(level, Recompute::kKeep) << name;
}

TEST(BlockLevels, BlocksWithoutThePartTakeFullOrKeep) {
  ModelConfig config;
  config.recompute = Recompute::kAttention;
  auto levels = levels_of(config);
  EXPECT_EQ(levels["vision.0"], Recompute::kAttention);
  EXPECT_EQ(levels["text.1"], Recompute::kAttention);
  EXPECT_EQ(levels["projector"], Recompute::kFull)
      << "one part: a level of a layer means all of it";
  EXPECT_EQ(levels["text.embed"], Recompute::kKeep) << "nothing is worth computing again";
  config.recompute = Recompute::kFull;
  levels = levels_of(config);
  EXPECT_EQ(levels["text.0"], Recompute::kFull);
  EXPECT_EQ(levels["text.head"], Recompute::kKeep);
}

TEST(BlockLevels, PatternsAndGroupsChooseBlocks) {
  ModelConfig config;
  config.recompute = Recompute::kFull;
  config.recompute_blocks = {"vision.*"};
  config.recompute_groups = {{"vision.1", Recompute::kKeep},
                             {"text.0", Recompute::kMlp},
                             {"text.*", Recompute::kAttention},
                             {"text.0", Recompute::kFull}};  // the first match counts
  auto levels = levels_of(config);
  EXPECT_EQ(levels["vision.0"], Recompute::kFull);
  EXPECT_EQ(levels["vision.1"], Recompute::kKeep);
  EXPECT_EQ(levels["text.0"], Recompute::kMlp);
  EXPECT_EQ(levels["text.1"], Recompute::kAttention);
  EXPECT_EQ(levels["projector"], Recompute::kKeep);
}

TEST(BlockLevels, PatternsThatMatchNothingAreErrors) {
  ModelConfig config;
  config.recompute_groups = {{"txt.*", Recompute::kFull}};
  EXPECT_THAT(testing::message_of<UserError>([&] { levels_of(config); }),
              HasSubstr("model.recompute_groups: pattern 'txt.*' matches no block"));
  config.recompute_groups.clear();
  config.recompute_blocks = {"layer.*"};
  EXPECT_THAT(testing::message_of<UserError>([&] { levels_of(config); }),
              HasSubstr("model.recompute_blocks: pattern 'layer.*' matches no block"));
}

}  // namespace
}  // namespace gimbal
