#include "gimbal/profile/pack_shapes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "gimbal/base/error.h"
#include "gimbal/base/rng.h"

namespace gimbal {
namespace {

std::vector<SampleShape> random_samples(std::size_t count) {
  const CounterRng rng(5);
  std::vector<SampleShape> samples;
  for (std::size_t i = 0; i < count; ++i) {
    const auto tiles = static_cast<std::int64_t>(rng.below(2 * i, 4));
    samples.push_back(
        {20 + static_cast<std::int64_t>(rng.below(2 * i + 1, 180)) + 16 * tiles, tiles, 7});
  }
  return samples;
}

TEST(PackShapes, WorkCountsRowsAndSquares) {
  const WorkSize work = work_of({{10, 2, 3}, {4, 0, 1}});
  EXPECT_EQ(work.text_rows, 14);
  EXPECT_EQ(work.text_pairs, 116);
  EXPECT_EQ(work.loss_rows, 4);
  EXPECT_EQ(work.vision_rows, 2);
  EXPECT_EQ(work.vision_pairs, 0);
}

TEST(PackShapes, StayInTheRoomAndReachItsEnd) {
  const std::vector<SampleShape> samples = random_samples(300);
  const PackRoom room{2000, 24};
  const auto packs = choose_packs(samples, room, 1);
  ASSERT_GE(packs.size(), 10U);
  double least = 1e9, most = 0;
  for (const PackShape& pack : packs) {
    const WorkSize work = work_of(pack);
    EXPECT_LE(work.text_rows, 2000);
    EXPECT_LE(work.vision_rows, 24);
    least = std::min(least, work.text_rows);
    most = std::max(most, work.text_rows);
    for (const SampleShape& sample : pack)
      EXPECT_NE(std::ranges::find(samples, sample), samples.end());
  }
  EXPECT_LT(least, 0.2 * 2000);
  EXPECT_GT(most, 0.7 * 2000);
  EXPECT_TRUE(std::ranges::is_sorted(
      packs, {}, [](const PackShape& pack) { return work_of(pack).text_rows; }));
}

TEST(PackShapes, TellRowsAndPairsApart) {
  const auto packs = choose_packs(random_samples(300), {2000, 0}, 1);
  double least = 1e9, most = 0;  // pairs of a row: the mean length that a row sees
  for (const PackShape& pack : packs) {
    const WorkSize work = work_of(pack);
    least = std::min(least, work.text_pairs / work.text_rows);
    most = std::max(most, work.text_pairs / work.text_rows);
  }
  EXPECT_GT(most, 1.5 * least);
}

TEST(PackShapes, NamesSampleAndCapWhenNothingFits) {
  const std::vector<SampleShape> samples{{500, 1, 1}, {300, 2, 1}, {400, 1, 1}};
  const auto message = [&](const PackRoom& room) -> std::string {
    try {
      choose_packs(samples, room, 1);
    } catch (const UserError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_THAT(message({100, 0}), testing::AllOf(testing::HasSubstr("sample 1, has 300 tokens"),
                                                testing::HasSubstr("100 tokens (balance.text_cap)"),
                                                testing::Not(testing::HasSubstr("vision_cap"))));
  EXPECT_THAT(message({350, 1}), testing::HasSubstr("1 tiles (balance.vision_cap)"));
  EXPECT_EQ(message({300, 2}), "");
  ModelDesc model;
  EXPECT_THROW(typical_samples(model, {15, 0}, 0), UserError);
  EXPECT_NO_THROW(typical_samples(model, {16, 0}, 0));
}

/// Rows and pairs of each pack; no two alike.
std::set<std::pair<double, double>> sizes_of(const std::vector<PackShape>& packs) {
  std::set<std::pair<double, double>> sizes;
  for (const PackShape& pack : packs)
    sizes.emplace(work_of(pack).text_rows, work_of(pack).text_pairs);
  return sizes;
}

TEST(PackShapes, SamplesThatNearlyFillTheRoomGiveEnoughSizes) {
  std::vector<SampleShape> samples;
  for (std::int64_t tokens = 60; tokens < 100; ++tokens) samples.push_back({tokens, 0, 1});
  EXPECT_GE(sizes_of(choose_packs(samples, {100, 0}, 1)).size(), 8U);
  // One sample only: as often as there is room.
  EXPECT_EQ(sizes_of(choose_packs(std::vector<SampleShape>{{10, 0, 1}}, {59, 0}, 1)).size(), 5U);
  EXPECT_EQ(choose_packs(std::vector<SampleShape>(9, {60, 0, 1}), {100, 0}, 1).size(), 1U);
}

TEST(PackShapes, SaysWhichClassHasTooFewSizes) {
  ModelDesc model;
  model.blocks.resize(3);
  model.blocks[0].kind = BlockKind::kTextEmbed;
  model.blocks[0].cost_class = "text_embed";
  for (const std::size_t i : {1, 2}) {
    model.blocks[i].kind = BlockKind::kTextLayer;
    model.blocks[i].cost_class = "text_layer";
  }
  std::vector<WorkSize> packs{work_of({{10, 0, 1}}), work_of({{10, 0, 1}})};
  EXPECT_EQ(too_few_sizes(model, packs).size(), 2U);
  packs.push_back(work_of({{10, 0, 1}, {10, 0, 1}}));
  const auto texts = too_few_sizes(model, packs);
  ASSERT_EQ(texts.size(), 1U);
  EXPECT_THAT(texts[0], testing::HasSubstr("text_layer blocks rest on 2 sizes of pack where 3"));
  packs.push_back(work_of({{20, 0, 1}}));
  EXPECT_TRUE(too_few_sizes(model, packs).empty());
}

TEST(PackShapes, AreTheSameForTheSameSeed) {
  const auto samples = random_samples(50);
  EXPECT_EQ(choose_packs(samples, {900, 0}, 3), choose_packs(samples, {900, 0}, 3));
  EXPECT_NE(choose_packs(samples, {900, 0}, 3), choose_packs(samples, {900, 0}, 4));
}

TEST(PackShapes, TypicalSamplesHoldTheirTiles) {
  ModelDesc model;
  model.tokens_per_vision_row = 16;
  model.max_positions = 4096;
  bool any_tiles = false, any_text = false;
  for (const SampleShape& sample : typical_samples(model, {1024, 3}, 0)) {
    EXPECT_GT(sample.tokens, sample.vision_rows * 16);
    EXPECT_LE(sample.tokens, 1024);
    EXPECT_LE(sample.vision_rows, 3);
    EXPECT_GE(sample.loss_tokens, 1);
    any_tiles = any_tiles || sample.vision_rows > 0;
    any_text = any_text || sample.vision_rows == 0;
  }
  EXPECT_TRUE(any_tiles && any_text);
  model.tokens_per_vision_row = 0;
  for (const SampleShape& sample : typical_samples(model, {1024, 0}, 0))
    EXPECT_EQ(sample.vision_rows, 0);
}

}  // namespace
}  // namespace gimbal
