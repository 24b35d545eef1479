#include "gimbal/balance/arrange/equalise.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <numeric>

#include "gimbal/balance/pack/methods.h"
#include "unit/balance/sample_sets.h"

namespace gimbal {
namespace {

using testing::SampleSet;

Packs packs_of(const std::vector<std::vector<std::uint32_t>>& lists) {
  Packs packs;
  for (const auto& list : lists) packs.add(list);
  return packs;
}

std::vector<std::uint32_t> rows_of(const Packs& packs, const SampleSizes& sizes, int stream) {
  std::vector<std::uint32_t> rows;
  for (std::size_t p = 0; p < packs.size(); ++p) {
    rows.push_back(0);
    for (const std::uint32_t sample : packs[p]) rows.back() += sizes.at(sample, stream);
  }
  return rows;
}

void equalise(Packs& packs, const SampleSet& set, const std::vector<StreamCost>& costs) {
  const SampleSizes sizes = set.sizes();
  const PackLimits limits(sizes, set.caps, costs);
  const LoadScale scale(packs, sizes, costs);
  const std::vector<std::uint32_t> loads = equalise_packs(packs, limits, scale);
  EXPECT_EQ(loads, weigh_packs(packs, scale));
}

TEST(LoadScale, AMeanPackWeighsTwoToTheFourteen) {
  const SampleSet set{2, {10, 100, 30, 300, 20, 200, 20, 200}, {{100, 1000}, 0}};
  const Packs packs = packs_of({{0, 1}, {2, 3}});
  const LoadScale scale(packs, set.sizes(), std::vector<StreamCost>{{1, 0}, {0, 1}});
  ASSERT_EQ(scale.dims(), 3U);  // rows, rows, cost
  const std::vector<std::uint32_t> loads = weigh_packs(packs, scale);
  EXPECT_NEAR(loads[0], 16384, 16);
  EXPECT_NEAR(loads[1], 16384, 16);
  EXPECT_NEAR(loads[3], 16384, 16);
  // Cost: 40 + 100000 and 40 + 80000.
  EXPECT_NEAR(loads[scale.cost_dim()], 16384 * 100040.0 / 90040, 20);
  EXPECT_NEAR(loads[3 + scale.cost_dim()], 16384 * 80040.0 / 90040, 20);
}

TEST(LoadScale, StreamsWithoutRowsAreNoDirection) {
  const SampleSet set{3, {0, 5, 0, 0, 7, 0}, {{0, 10, 0}, 0}};
  const Packs packs = packs_of({{0}, {1}});
  const std::vector<StreamCost> costs{{1, 0}, {1, 0}, {1, 0}};
  EXPECT_EQ(LoadScale(packs, set.sizes(), costs).dims(), 2U);
  const SampleSet nothing{1, {0, 0}, {{10}, 0}};
  const LoadScale scale(packs, nothing.sizes(), std::vector<StreamCost>{{1, 1}});
  EXPECT_EQ(weigh_packs(packs, scale), (std::vector<std::uint32_t>{0, 0}));
}

TEST(LoadScale, TwoStreamsWithPairsHaveTheirOwnCost) {
  const SampleSet set{2, {10, 10, 10, 10}, {{100, 0}, 0}};
  const Packs packs = packs_of({{0}, {1}});
  EXPECT_EQ(LoadScale(packs, set.sizes(), std::vector<StreamCost>{{1, 1}, {1, 1}}).dims(), 5U);
  EXPECT_EQ(LoadScale(packs, set.sizes(), std::vector<StreamCost>{{1, 1}, {1, 0}}).dims(), 3U);
}

TEST(LoadScale, AGiantSampleDoesNotOverflow) {
  SampleSet set{1, std::vector<std::uint32_t>(1000, 1), {{10}, 0}};
  set.rows[0] = 4294967295U;
  Packs packs;
  for (std::uint32_t i = 0; i < 1000; ++i) packs.add({&i, 1});
  const LoadScale scale(packs, set.sizes(), std::vector<StreamCost>{{1, 1e9}});
  const std::vector<std::uint32_t> loads = weigh_packs(packs, scale);
  EXPECT_EQ(*std::max_element(loads.begin(), loads.end()), 512U * 16384U);
}

TEST(EqualisePacks, HeavyAndLightExchange) {
  const SampleSet set{1, {10, 10, 2, 2}, {{20}, 0}};
  Packs packs = packs_of({{0, 1}, {2, 3}});
  equalise(packs, set, {{1, 0}});
  EXPECT_EQ(rows_of(packs, set.sizes(), 0), (std::vector<std::uint32_t>{12, 12}));
}

TEST(EqualisePacks, TwoForTwoWhereOneForOneDoesNotHelp) {
  // Any exchange of one sample for one upsets the first stream more than it helps the second.
  const SampleSet set{2, {3, 10, 3, 10, 1, 2, 1, 2, 6, 9, 0, 9, 2, 1, 0, 1}, {{100, 100}, 0}};
  Packs packs = packs_of({{0, 1, 2, 3}, {4, 5, 6, 7}});
  ASSERT_EQ(rows_of(packs, set.sizes(), 1), (std::vector<std::uint32_t>{24, 20}));
  equalise(packs, set, {{1, 0}, {1, 0}});
  EXPECT_EQ(rows_of(packs, set.sizes(), 0), (std::vector<std::uint32_t>{8, 8}));
  EXPECT_EQ(rows_of(packs, set.sizes(), 1), (std::vector<std::uint32_t>{22, 22}));
}

TEST(EqualisePacks, AnExchangeThatExceedsACapIsLeftOut) {
  // The exchange of sample 0 for sample 1 would halve the difference, but give the second pack 10
  // rows of the first stream.
  SampleSet set{2, {8, 0, 2, 90, 2, 90}, {{9, 0}, 0}};
  Packs packs = packs_of({{0}, {1, 2}});
  equalise(packs, set, {{0, 0}, {1, 0}});
  EXPECT_EQ(rows_of(packs, set.sizes(), 1), (std::vector<std::uint32_t>{0, 180}));
  set.caps.rows[0] = 10;
  equalise(packs, set, {{0, 0}, {1, 0}});
  EXPECT_EQ(rows_of(packs, set.sizes(), 1), (std::vector<std::uint32_t>{90, 90}));
}

TEST(EqualisePacks, NoPacksAndOnePackAreLeftAlone) {
  const SampleSet set{1, {3, 4}, {{20}, 0}};
  Packs none;
  equalise(none, set, {{1, 0}});
  EXPECT_EQ(none.size(), 0U);
  Packs one = packs_of({{0, 1}});
  equalise(one, set, {{1, 0}});
  EXPECT_EQ(one.size(), 1U);
}

RC_GTEST_PROP(EqualisePacks, KeepsSamplesLimitsAndLoads, ()) {
  SampleSet set;
  set.num_streams = *rc::gen::inRange(1, 9);
  const auto streams = static_cast<std::size_t>(set.num_streams);
  const auto samples = *rc::gen::inRange<std::uint32_t>(1, 200);
  const auto most = *rc::gen::element<std::uint32_t>(1, 8, 1000, 4000000000U);
  const CounterRng rng(*rc::gen::arbitrary<std::uint64_t>());
  for (std::size_t i = 0; i < samples * streams; ++i)
    set.rows.push_back(static_cast<std::uint32_t>(rng.below(i, std::uint64_t{most} + 1)));
  std::vector<StreamCost> costs;
  for (std::size_t k = 0; k < streams; ++k) {
    set.caps.rows.push_back(*rc::gen::inRange<std::uint64_t>(most, std::uint64_t{4} * most + 1));
    costs.push_back({1.0 + static_cast<double>(k), k % 2 == 0 ? 0.0 : 0.01});
  }
  set.caps.samples = *rc::gen::element<std::uint64_t>(0, 5);
  const SampleSizes sizes = set.sizes();
  const PackLimits limits(sizes, set.caps, costs);
  Packs packs = window_packs(limits, random_permutation(samples, rng));
  const Packs before = packs;
  const LoadScale scale(packs, sizes, costs);
  const std::vector<std::uint32_t> loads = equalise_packs(packs, limits, scale);

  RC_ASSERT(packs.offsets == before.offsets);
  auto one = packs.samples, other = before.samples;
  std::sort(one.begin(), one.end());
  std::sort(other.begin(), other.end());
  RC_ASSERT(one == other);
  for (std::size_t p = 0; p < packs.size(); ++p) {
    for (int limit = 0; limit < limits.count(); ++limit) {
      std::uint64_t sum = 0;
      for (const std::uint32_t sample : packs[p]) sum += limits.demand(sample, limit);
      RC_ASSERT(sum <= limits.cap(limit));
    }
  }
  RC_ASSERT(loads == weigh_packs(packs, scale));
}

}  // namespace
}  // namespace gimbal
