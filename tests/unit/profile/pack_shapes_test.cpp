#include "gimbal/profile/pack_shapes.h"

#include <gtest/gtest.h>

#include <algorithm>

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

TEST(PackShapes, SamplesWithoutRoomAreMeasuredAlone) {
  const std::vector<SampleShape> samples{{500, 0, 1}, {300, 0, 1}, {400, 0, 1}};
  const auto packs = choose_packs(samples, {100, 0}, 1);
  ASSERT_FALSE(packs.empty());
  EXPECT_EQ(packs.front(), (PackShape{{300, 0, 1}}));
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
