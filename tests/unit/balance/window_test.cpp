#include <cmath>
#include <set>

#include "gimbal/balance/bound/fast.h"
#include "gimbal/balance/pack/methods.h"
#include "unit/balance/brute_force.h"
#include "unit/balance/pack_cases.h"
#include "unit/balance/sample_sets.h"

namespace gimbal {
namespace {

using testing::ascending;
using testing::packing_fault;
using testing::SampleSet;

Packs window(const SampleSet& set, std::span<const std::uint32_t> order) {
  return window_packs(PackLimits(set.sizes(), set.caps, {}), order);
}

TEST(WindowPacks, ComplementsShareAPack) {
  const SampleSet set{1, {9, 1, 8, 2, 7, 3, 6, 4}, {{10}, 0}};
  const Packs packs = window(set, ascending(8));
  ASSERT_EQ(packs.size(), 4U);
  for (std::size_t p = 0; p < packs.size(); ++p) {
    std::uint32_t rows = 0;
    for (const std::uint32_t sample : packs[p]) rows += set.rows[sample];
    EXPECT_EQ(rows, 10U);
  }
}

TEST(WindowPacks, TheTightestStreamDecides) {
  // The second stream allows two samples in a pack, the first would allow all.
  const SampleSet set{2, {1, 5, 1, 5, 1, 5, 1, 5}, {{100, 10}, 0}};
  EXPECT_EQ(window(set, ascending(4)).size(), 2U);
}

TEST(WindowPacks, CountCapHoldsWithoutRows) {
  const SampleSet set{1, {0, 0, 0, 0, 0}, {{0}, 2}};
  EXPECT_EQ(window(set, ascending(5)).size(), 3U);
}

TEST(WindowPacks, SamplesWithoutRowsFitEverywhere) {
  const SampleSet set{2, {0, 0, 0, 0, 4, 4}, {{4, 4}, 0}};
  EXPECT_EQ(window(set, ascending(3)).size(), 1U);
}

TEST(WindowPacks, NothingGivesNoPacks) {
  const SampleSet set{1, {3}, {{4}, 0}};
  EXPECT_EQ(window(set, {}).size(), 0U);
}

TEST(WindowPacks, AVeryHighCapIsNoOverflow) {
  const SampleSet set{1, {4000000000U, 4000000000U, 7}, {{~std::uint64_t{0}}, ~std::uint64_t{0}}};
  EXPECT_EQ(window(set, ascending(3)).size(), 1U);
}

TEST(WindowPacks, AnEntryThatDoesNotFitIsADefect) {
  SampleSet set{1, {5, 11}, {{10}, 0}};
  EXPECT_THROW(window(set, ascending(2)), InternalError);
  set.rows.resize(5000, 11);
  EXPECT_THROW(window(set, ascending(5000)), InternalError);
  EXPECT_THROW(window(set, std::vector<std::uint32_t>{5000}), InternalError);
}

TEST(WindowPacks, EveryEntryOnceAndNoCapExceeded) {
  testing::check_cases(10000, [] {
    const testing::PackCase drawn = testing::any_pack_case(0, 40);
    const PackLimits limits = drawn.limits();
    RC_ASSERT(packing_fault(limits, window_packs(limits, drawn.order), drawn.order) == "");
  });
}

TEST(WindowPacks, EveryEntryOnceAndNoCapExceededOverManyWindows) {
  testing::check_cases(60, [] {
    const testing::PackCase drawn = testing::any_pack_case(2000, 14000);
    const PackLimits limits = drawn.limits();
    RC_ASSERT(packing_fault(limits, window_packs(limits, drawn.order), drawn.order) == "");
  });
}

TEST(WindowPacks, ReachesTheOptimumOnNearlyAllSmallCases) {
  int cases = 0;
  int optimal = 0;
  testing::check_cases(1500, [&] {
    const testing::PackCase drawn = testing::any_pack_case(1, 12);
    const PackLimits limits = drawn.limits();
    const std::size_t packs = window_packs(limits, drawn.order).size();
    const std::uint64_t fewest = testing::fewest_packs(limits, drawn.order);
    RC_ASSERT(packs >= fewest);
    RC_ASSERT(packs <= fewest + 1);
    ++cases;
    optimal += packs == fewest ? 1 : 0;
  });
  EXPECT_GE(optimal, cases * 995 / 1000) << optimal << " of " << cases;
}

// Tight cases, an eighth of which have an optimum above the bound: every step of the search counts.
TEST(WindowPacks, ReachesTheOptimumOnTightCases) {
  int optimal = 0;
  constexpr int kCases = 2000;
  for (int seed = 0; seed < kCases; ++seed) {
    const CounterRng rng(static_cast<std::uint64_t>(seed));
    const auto streams = static_cast<std::size_t>(1 + rng.below(0, 4));
    const auto count = static_cast<std::size_t>(6 + rng.below(1, 9));
    SampleSet set{static_cast<int>(streams), {}, {{}, 0}};
    for (std::size_t i = 0; i < count * streams; ++i) {
      const bool none = rng.below(100 + i, 5) == 0;
      set.rows.push_back(none ? 0 : 20 + static_cast<std::uint32_t>(rng.below(200 + i, 60)));
    }
    for (std::size_t k = 0; k < streams; ++k) set.caps.rows.push_back(100 + rng.below(50 + k, 60));
    const PackLimits limits(set.sizes(), set.caps, {});
    const std::size_t packs = window_packs(limits, ascending(count)).size();
    const std::uint64_t fewest = testing::fewest_packs(limits, ascending(count));
    EXPECT_GE(packs, fewest) << seed;
    optimal += packs == fewest ? 1 : 0;
  }
  EXPECT_GE(optimal, kCases - 2);
}

// Mixes of 1 to 4 streams whose best start differs: no method for comparison has fewer packs.
TEST(WindowPacks, IsNotBehindTheOtherMethodsOnAnyMix) {
  for (int streams = 1; streams <= 4; ++streams) {
    for (const std::uint32_t count : {300U, 3000U, 20000U}) {
      const SampleSet set = testing::modality_mix(streams, count, 11);
      const PackLimits limits(set.sizes(), set.caps, {});
      const auto order = random_permutation(count, CounterRng(3));
      const auto packs = static_cast<double>(window_packs(limits, order).size());
      const auto best_fit = static_cast<double>(best_fit_decreasing_packs(limits, order).size());
      const auto isf = static_cast<double>(isf_packs(limits, {}, order, CounterRng(1)).size());
      const auto bound = static_cast<double>(fast_lower_bound(limits, order));
      EXPECT_LE(packs, best_fit * 1.0005) << streams << " streams, " << count;
      EXPECT_LE(packs, isf * 1.0005) << streams << " streams, " << count;
      EXPECT_GE(packs, bound);
      EXPECT_LE(packs, bound * 1.015 + 1) << streams << " streams, " << count;
    }
  }
}

TEST(WindowPacks, IsNearTheBoundOnTiledPictures) {
  const SampleSet set = testing::tiled_pictures(30000, 5);
  const PackLimits limits(set.sizes(), set.caps, {});
  const auto order = random_permutation(30000, CounterRng(3));
  const Packs packs = window_packs(limits, order);
  const std::uint64_t bound = fast_lower_bound(limits, order);
  EXPECT_GE(packs.size(), bound);
  EXPECT_LE(static_cast<double>(packs.size()), 1.003 * static_cast<double>(bound));
}

TEST(WindowPacks, ManySamplesInAPackAreNoLoss) {
  // About 1,100 samples in each pack, among them some without rows; several windows.
  const CounterRng rng(3);
  SampleSet set{1, {}, {{200000}, 0}};
  for (std::uint32_t i = 0; i < 200000; ++i) {
    const bool none = rng.below(2 * i, 10) == 0;
    set.rows.push_back(none ? 0 : 1 + static_cast<std::uint32_t>(rng.below(2 * i + 1, 400)));
  }
  const PackLimits limits(set.sizes(), set.caps, {});
  const auto order = ascending(200000);
  const Packs packs = window_packs(limits, order);
  EXPECT_EQ(packing_fault(limits, packs, order), "");
  EXPECT_EQ(packs.size(), fast_lower_bound(limits, order));
}

TEST(WindowPacks, NearlyAllSamplesWithoutRowsStayLinear) {
  SampleSet set{1, std::vector<std::uint32_t>(300000, 0), {{10}, 0}};
  for (std::size_t i = 0; i < set.rows.size(); i += 50) set.rows[i] = 6;
  const PackLimits limits(set.sizes(), set.caps, {});
  const auto order = random_permutation(300000, CounterRng(5));
  const Packs packs = window_packs(limits, order);
  EXPECT_EQ(packing_fault(limits, packs, order), "");
  EXPECT_EQ(packs.size(), 6000U);
}

// The share of the pairs of companions that meet again under another order.
double met_again(const Packs& a, const Packs& b) {
  std::set<std::pair<std::uint32_t, std::uint32_t>> pairs;
  for (std::size_t p = 0; p < a.size(); ++p) {
    for (const std::uint32_t x : a[p]) {
      for (const std::uint32_t y : a[p]) {
        if (x < y) pairs.emplace(x, y);
      }
    }
  }
  std::size_t met = 0;
  std::size_t all = 0;
  for (std::size_t p = 0; p < b.size(); ++p) {
    for (const std::uint32_t x : b[p]) {
      for (const std::uint32_t y : b[p]) {
        if (x >= y) continue;
        ++all;
        met += pairs.count({x, y});
      }
    }
  }
  return static_cast<double>(met) / static_cast<double>(all);
}

TEST(WindowPacks, AnotherOrderHasOtherCompanionsAndTheSameOrderTheSame) {
  for (const std::uint32_t count : {400U, 1500U, 9000U}) {
    const SampleSet set = testing::tiled_pictures(count, 5);
    const auto first = random_permutation(count, CounterRng(3));
    const auto second = random_permutation(count, CounterRng(4));
    const Packs a = window(set, first);
    EXPECT_EQ(a.samples, window(set, first).samples);
    EXPECT_LT(met_again(a, window(set, second)), 12.0 / count) << count;
  }
}

}  // namespace
}  // namespace gimbal
