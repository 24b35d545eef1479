#include "gimbal/plan/packed_work.h"

#include <gtest/gtest.h>

#include <numeric>
#include <set>

#include "gimbal/base/error.h"
#include "unit/plan/plan_cases.h"

namespace gimbal {
namespace {

TEST(PackedWork, CountsWhatTheSamplesBring) {
  const ModelDesc model = testing::small_model();
  SampleTable samples;
  samples.text_rows = {300, 600};
  samples.vision_rows = {1, 2};
  const WorkSize work = sample_work(samples, 1, model);
  EXPECT_EQ(work.text_rows, 600);
  EXPECT_EQ(work.text_pairs, 360000);
  EXPECT_EQ(work.vision_rows, 2);
  EXPECT_EQ(work.vision_pairs, 0) << "a tile attends to itself alone";
  EXPECT_EQ(work.loss_rows, 600 - 2 * 256);
  samples.loss_rows = {5, 7};
  EXPECT_EQ(sample_work(samples, 1, model).loss_rows, 7);
  ModelDesc patches = model;
  patches.vision_row = "patch";
  EXPECT_EQ(sample_work(samples, 1, patches).vision_pairs, 4);
}

TEST(PackedWork, KeepsEverySampleOnceWithinTheCaps) {
  const ModelDesc model = testing::small_model();
  const SampleTable samples = testing::random_samples(1000);
  PackChoice choice;
  choice.caps.rows = {4096, 12};
  choice.packs_per_step = 8;
  const PackedWork packed = pack_work(samples, model, stream_costs(model), choice);
  std::set<std::uint32_t> seen;
  WorkSize sum;
  for (std::size_t p = 0; p < packed.packs.size(); ++p) {
    EXPECT_LE(packed.packs[p].text_rows, 4096);
    EXPECT_LE(packed.packs[p].vision_rows, 12);
    sum = sum + packed.packs[p];
    for (const std::uint32_t sample : packed.samples[p]) EXPECT_TRUE(seen.insert(sample).second);
  }
  EXPECT_EQ(seen.size(), 1000U);
  const double text = std::accumulate(samples.text_rows.begin(), samples.text_rows.end(), 0.0);
  EXPECT_EQ(sum.text_rows, text);
  EXPECT_NEAR(packed.mean.text_rows * static_cast<double>(packed.packs.size()), text, 1e-6 * text);
  EXPECT_EQ(packed.largest.text_rows, 4096) << "another epoch may have a full pack";
  EXPECT_EQ(packed.largest.vision_rows, 12);
}

TEST(PackedWork, CountsThePaddingOfMiniBatches) {
  const ModelDesc model = testing::small_model();
  SampleTable samples;
  samples.text_rows = {100, 400};
  samples.vision_rows = {1, 1};
  PackChoice choice;
  choice.method = PackMethod::kRandom;
  choice.samples = 2;
  const PackedWork packed = pack_work(samples, model, stream_costs(model), choice);
  ASSERT_EQ(packed.packs.size(), 1U);
  EXPECT_EQ(packed.packs[0].text_rows, 800);
  EXPECT_EQ(packed.packs[0].text_pairs, 2 * 400.0 * 400.0);
  EXPECT_EQ(packed.packs[0].vision_rows, 2);
}

TEST(PackedWork, NamesTheSampleAboveACap) {
  const ModelDesc model = testing::small_model();
  SampleTable samples;
  samples.text_rows = {100, 4000};
  samples.describe = [](std::uint32_t sample) { return "row " + std::to_string(sample + 2); };
  PackChoice choice;
  choice.caps.rows = {1000, 0};
  try {
    pack_work(samples, model, stream_costs(model), choice);
    FAIL();
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find("row 3"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace gimbal
