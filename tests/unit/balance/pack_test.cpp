#include "gimbal/balance/pack.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <string>

#include "gimbal/base/error.h"
#include "unit/balance/sample_sets.h"

namespace gimbal {
namespace {

using testing::SampleSet;

std::vector<std::uint32_t> ascending(std::size_t n) {
  std::vector<std::uint32_t> order(n);
  std::iota(order.begin(), order.end(), 0U);
  return order;
}

std::string error_of(const SampleSet& set) {
  try {
    pack_samples(set.sizes(), set.caps, ascending(set.sizes().num_samples()));
  } catch (const UserError& error) {
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return {};
}

TEST(PackSamples, ComplementsShareAPack) {
  const SampleSet set{1, {9, 1, 8, 2, 7, 3, 6, 4}, {{10}, 0}};
  const Packs packs = pack_samples(set.sizes(), set.caps, ascending(8));
  ASSERT_EQ(packs.size(), 4U);
  for (std::size_t p = 0; p < packs.size(); ++p) {
    std::uint32_t rows = 0;
    for (const std::uint32_t sample : packs[p]) rows += set.rows[sample];
    EXPECT_EQ(rows, 10U);
  }
}

TEST(PackSamples, TheTightestStreamDecides) {
  // The second stream allows two samples in a pack, the first would allow all.
  const SampleSet set{2, {1, 5, 1, 5, 1, 5, 1, 5}, {{100, 10}, 0}};
  EXPECT_EQ(pack_samples(set.sizes(), set.caps, ascending(4)).size(), 2U);
}

TEST(PackSamples, CountCapHoldsWithoutRows) {
  const SampleSet set{1, {0, 0, 0, 0, 0}, {{0}, 2}};
  EXPECT_EQ(pack_samples(set.sizes(), set.caps, ascending(5)).size(), 3U);
}

TEST(PackSamples, SamplesWithoutRowsFitEverywhere) {
  const SampleSet set{2, {0, 0, 0, 0, 4, 4}, {{4, 4}, 0}};
  EXPECT_EQ(pack_samples(set.sizes(), set.caps, ascending(3)).size(), 1U);
}

TEST(PackSamples, NothingGivesNoPacks) {
  const SampleSet set{1, {3}, {{4}, 0}};
  EXPECT_EQ(pack_samples(set.sizes(), set.caps, {}).size(), 0U);
  EXPECT_EQ(packs_lower_bound(set.sizes(), set.caps, {}), 0U);
}

TEST(PackSamples, AVeryHighCapIsNoOverflow) {
  const SampleSet set{1, {4000000000U, 4000000000U, 7}, {{~std::uint64_t{0}}, ~std::uint64_t{0}}};
  EXPECT_EQ(pack_samples(set.sizes(), set.caps, ascending(3)).size(), 1U);
}

TEST(PackSamples, OversizeSamplesAreListedWithTheirCaps) {
  const SampleSet set{2, {1, 3, 9, 3, 1, 70, 10, 99}, {{8, 64}, 0}};
  const std::string message = error_of(set);
  EXPECT_NE(message.find("3 samples do not fit"), std::string::npos) << message;
  EXPECT_NE(message.find("sample 1: 9 rows in stream 0 (cap 8)\n"), std::string::npos) << message;
  EXPECT_NE(message.find("sample 2: 70 rows in stream 1 (cap 64)\n"), std::string::npos) << message;
  EXPECT_NE(message.find("sample 3: 10 rows in stream 0 (cap 8) 99 rows in stream 1 (cap 64)"),
            std::string::npos)
      << message;
}

TEST(PackSamples, ALongListOfOversizeSamplesIsCut) {
  const SampleSet set{1, std::vector<std::uint32_t>(25, 9), {{8}, 0}};
  const std::string message = error_of(set);
  EXPECT_NE(message.find("25 samples"), std::string::npos) << message;
  EXPECT_NE(message.find("and 15 more"), std::string::npos) << message;
  EXPECT_EQ(message.find("sample 10:"), std::string::npos) << message;
}

TEST(PackSamples, NoCapIsAnError) {
  const SampleSet set{2, {1, 1}, {{0, 0}, 0}};
  EXPECT_NE(error_of(set).find("no cap is set"), std::string::npos);
}

TEST(PackSamples, IsNearTheBoundOnMixedSizes) {
  // Vision rows of pictures cut into tiles, token counts that go with them.
  SampleSet set = testing::tiled_pictures(30000, 5);
  const auto order = random_permutation(30000, CounterRng(3));
  const Packs packs = pack_samples(set.sizes(), set.caps, order);
  const std::uint64_t bound = packs_lower_bound(set.sizes(), set.caps, order);
  EXPECT_GE(packs.size(), bound);
  EXPECT_LE(static_cast<double>(packs.size()), 1.05 * static_cast<double>(bound));
}

TEST(RandomPacks, KeepTheOrderInGroups) {
  const std::vector<std::uint32_t> order{4, 2, 0, 1, 3};
  const Packs packs = random_packs(order, 2);
  ASSERT_EQ(packs.size(), 3U);
  EXPECT_EQ(std::vector<std::uint32_t>(packs[0].begin(), packs[0].end()),
            (std::vector<std::uint32_t>{4, 2}));
  EXPECT_EQ(std::vector<std::uint32_t>(packs[2].begin(), packs[2].end()),
            (std::vector<std::uint32_t>{3}));
  EXPECT_EQ(random_packs(order, ~std::uint64_t{0}).size(), 1U);
  EXPECT_EQ(random_packs({}, 2).size(), 0U);
}

TEST(RandomPacks, AGroupOfNoneIsAnError) {
  EXPECT_THROW(random_packs(std::vector<std::uint32_t>{1}, 0), UserError);
}

TEST(PacksLowerBound, CountsRowsAndSamplesThatCannotShare) {
  const auto bound = [](std::vector<std::uint32_t> rows, PackCaps caps) {
    const SampleSet set{1, std::move(rows), std::move(caps)};
    return packs_lower_bound(set.sizes(), set.caps, ascending(set.rows.size()));
  };
  EXPECT_EQ(bound({3, 3, 3, 3}, {{6}, 0}), 2U);         // by rows
  EXPECT_EQ(bound({6, 6, 6}, {{10}, 0}), 3U);           // no two fit
  EXPECT_EQ(bound({5, 5, 5, 5, 5, 5}, {{14}, 0}), 3U);  // no three fit
  EXPECT_EQ(bound({1, 1, 1}, {{100}, 1}), 3U);          // by the number of samples
  EXPECT_EQ(bound({0, 0}, {{4}, 0}), 1U);
}

}  // namespace
}  // namespace gimbal
