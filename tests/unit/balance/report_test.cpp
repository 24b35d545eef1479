#include "gimbal/balance/report.h"

#include <gtest/gtest.h>

#include <cmath>

#include "gimbal/base/error.h"
#include "unit/balance/sample_sets.h"

namespace gimbal {
namespace {

using testing::SampleSet;

Packs singles(std::uint32_t count) {
  Packs packs;
  for (std::uint32_t i = 0; i < count; ++i) packs.add({&i, 1});
  return packs;
}

BalanceReport measure(const SampleSet& set, const Packs& packs, std::uint64_t ranks,
                      std::uint64_t packs_per_step, std::vector<std::uint32_t> sources = {},
                      int padded_stream = -1) {
  const std::vector<StreamCost> costs(static_cast<std::size_t>(set.num_streams), StreamCost{1, 0});
  return measure_balance(
      {packs, set.sizes(), costs, set.caps, sources, ranks, packs_per_step, padded_stream, 1});
}

TEST(MeasureBalance, FillAndWasteOfAHandMadeExample) {
  // Slots {6, 3}, {4, 4}, and 2 alone, which counts in the fill only.
  const SampleSet set{1, {6, 3, 4, 4, 2}, {{6}, 0}};
  const BalanceReport report = measure(set, singles(5), 2, 2);
  EXPECT_EQ(report.samples_packed, 5U);
  EXPECT_EQ(report.packs, 5U);
  EXPECT_EQ(report.steps, 3U);
  EXPECT_EQ(report.slots, 3U);
  EXPECT_DOUBLE_EQ(report.fill[0], 19.0 / 30);
  EXPECT_DOUBLE_EQ(report.waste[0], (0.25 + 0) / 2);
  EXPECT_DOUBLE_EQ(report.cost_waste, 0.125);
  EXPECT_EQ(report.dist_ratio, report.waste);
  EXPECT_DOUBLE_EQ(report.pad_ratio, 0);
  EXPECT_DOUBLE_EQ(report.source_mix_ratio, 1);
}

TEST(MeasureBalance, StreamsAndCostAreMeasuredApart) {
  const SampleSet set{2, {1, 30, 3, 10}, {{0, 40}, 0}};
  const std::vector<StreamCost> costs{{10, 0}, {0, 0.1}};  // costs 10 + 90 and 30 + 10
  const BalanceReport report =
      measure_balance({singles(2), set.sizes(), costs, set.caps, {}, 2, 2, -1, 0});
  EXPECT_DOUBLE_EQ(report.fill[0], 0);  // no cap
  EXPECT_DOUBLE_EQ(report.fill[1], 0.5);
  EXPECT_DOUBLE_EQ(report.waste[0], 1 - 2.0 / 3);
  EXPECT_DOUBLE_EQ(report.waste[1], 1 - 20.0 / 30);
  EXPECT_DOUBLE_EQ(report.cost_waste, 1 - 70.0 / 100);
}

TEST(MeasureBalance, SlotsEndWithTheirStep) {
  // Steps {8, 8, 4} and {2, 2, 1} on two ranks: the third pack of a step runs without a partner.
  const SampleSet set{1, {8, 8, 4, 2, 2, 1}, {{8}, 0}};
  const BalanceReport report = measure(set, singles(6), 2, 3);
  EXPECT_EQ(report.steps, 2U);
  EXPECT_EQ(report.slots, 4U);
  EXPECT_DOUBLE_EQ(report.waste[0], 0);
  // More ranks than packs in a step: no slot is full.
  EXPECT_EQ(measure(set, singles(6), 4, 3).slots, 2U);
  EXPECT_DOUBLE_EQ(measure(set, singles(6), 4, 3).waste[0], 0);
}

TEST(MeasureBalance, OrderCorrelationIsPearsons) {
  const SampleSet set{1, {1, 2, 3, 4}, {{8}, 0}};
  EXPECT_DOUBLE_EQ(measure(set, singles(4), 1, 1).order_correlation, 1);
  const SampleSet falling{1, {4, 3, 2, 1}, {{8}, 0}};
  EXPECT_DOUBLE_EQ(measure(falling, singles(4), 1, 1).order_correlation, -1);
  // (0, 1), (1, 3), (2, 2): covariance 1, deviations sqrt(2) each.
  const SampleSet mixed{1, {1, 3, 2}, {{8}, 0}};
  EXPECT_NEAR(measure(mixed, singles(3), 1, 1).order_correlation, 0.5, 1e-12);
  const SampleSet equal{1, {5, 5, 5, 5}, {{8}, 0}};
  EXPECT_DOUBLE_EQ(measure(equal, singles(4), 1, 1).order_correlation, 0);
  const SampleSet two{1, {1, 2}, {{8}, 0}};
  EXPECT_DOUBLE_EQ(measure(two, singles(2), 1, 1).order_correlation, 0);
}

TEST(MeasureBalance, SourceMixComparesWithARandomOrder) {
  constexpr std::uint32_t kPacks = 4000;
  const SampleSet set{1, std::vector<std::uint32_t>(kPacks, 1), {{1}, 0}};
  std::vector<std::uint32_t> halves, turns, random;
  for (std::uint32_t i = 0; i < kPacks; ++i) {
    halves.push_back(i < kPacks / 2 ? 0 : 1);
    turns.push_back(i % 2);
    random.push_back(CounterRng(5).below(i, 2) == 0 ? 0 : 1);
  }
  // Of 8 packs of two sources, the random distance is E|Binomial(8, 1/2) - 4| / 8 = 0.1367.
  EXPECT_NEAR(measure(set, singles(kPacks), 8, 8, halves).source_mix_ratio, 0.5 / 0.1367, 0.2);
  EXPECT_DOUBLE_EQ(measure(set, singles(kPacks), 8, 8, turns).source_mix_ratio, 0);
  EXPECT_NEAR(measure(set, singles(kPacks), 8, 8, random).source_mix_ratio, 1, 0.1);
  // One slot of all packs is mixed like the whole in every order.
  EXPECT_DOUBLE_EQ(measure(set, singles(kPacks), kPacks, kPacks, halves).source_mix_ratio, 1);
}

TEST(MeasureBalance, PaddedMiniBatches) {
  // Mini-batches {4, 2} and {3, 3}: padded to 8 and 6, of which 2 are padding.
  const SampleSet set{1, {4, 2, 3, 3}, {{8}, 0}};
  Packs packs;
  packs.add(std::vector<std::uint32_t>{0, 1});
  packs.add(std::vector<std::uint32_t>{2, 3});
  const BalanceReport report = measure(set, packs, 2, 2, {}, 0);
  EXPECT_DOUBLE_EQ(report.pad_ratio, 2.0 / 14);
  EXPECT_DOUBLE_EQ(report.dist_ratio[0], (8.0 - 6) / (8 * 2));
  EXPECT_DOUBLE_EQ(report.waste[0], 0);  // of the rows themselves
}

TEST(MeasureBalance, NothingGivesZeros) {
  const SampleSet set{2, {}, {{8, 8}, 0}};
  const BalanceReport report = measure(set, Packs{}, 4, 8);
  EXPECT_EQ(report.packs, 0U);
  EXPECT_EQ(report.steps, 0U);
  EXPECT_EQ(report.slots, 0U);
  EXPECT_EQ(report.fill, (std::vector<double>{0, 0}));
  EXPECT_EQ(report.waste, (std::vector<double>{0, 0}));
  EXPECT_DOUBLE_EQ(report.source_mix_ratio, 1);
  const SampleSet empty_rows{1, {0, 0}, {{8}, 0}};
  EXPECT_DOUBLE_EQ(measure(empty_rows, singles(2), 2, 2).waste[0], 0);
}

TEST(MeasureBalance, WrongArgumentsAreDefects) {
  const SampleSet set{1, {1}, {{8}, 0}};
  EXPECT_THROW(measure(set, singles(1), 0, 1), InternalError);
  EXPECT_THROW(measure(set, singles(1), 1, 0), InternalError);
  EXPECT_THROW(measure(set, singles(1), 1, 1, {0, 1}), InternalError);
  EXPECT_THROW(measure(set, singles(1), 1, 1, {}, 1), InternalError);
}

}  // namespace
}  // namespace gimbal
