#include "gimbal/balance/arrange/arrange.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "gimbal/balance/pack/methods.h"
#include "gimbal/balance/report.h"
#include "gimbal/base/error.h"
#include "unit/balance/real_lengths.h"
#include "unit/balance/sample_sets.h"

namespace gimbal {
namespace {

using testing::SampleSet;

// Attention is about 3 % of the cost.
const std::vector<StreamCost> kCosts{{600, 0}, {1, 8e-5}};

double cost_of(std::span<const std::uint32_t> pack, const SampleSizes& sizes) {
  double cost = 0;
  for (const std::uint32_t sample : pack) cost += sample_cost(sizes, sample, kCosts);
  return cost;
}

TEST(PackCosts, AddTheSamplesOfAPack) {
  const SampleSet set{2, {1, 10, 2, 20, 3, 30}, {}};
  Packs packs;
  packs.add(std::vector<std::uint32_t>{0, 2});
  packs.add(std::vector<std::uint32_t>{1});
  EXPECT_EQ(pack_costs(packs, set.sizes(), std::vector<StreamCost>{{2, 0}, {1, 0.5}}),
            (std::vector<double>{8, 40 + 500, 4, 20 + 200}));
}

TEST(ArrangePacks, SlotsAreSortedAndTheRestIsCheapestAndLast) {
  const SampleSet set = testing::tiled_pictures(1003, 2);
  const PackLimits limits(set.sizes(), set.caps, kCosts);
  Packs packs = window_packs(limits, random_permutation(1003, CounterRng(1)));
  ASSERT_NE(packs.size() % 7, 0U);
  arrange_packs(packs, limits, kCosts, {}, 7, CounterRng(2));
  const std::size_t whole = packs.size() / 7 * 7;
  double dearest_rest = 0, cheapest = std::numeric_limits<double>::max();
  for (std::size_t p = 0; p < packs.size(); ++p) {
    const double cost = cost_of(packs[p], set.sizes());
    // Loads are counted in steps of a mean pack / 2^16.
    if (p % 7 != 0) {
      EXPECT_LE(cost_of(packs[p - 1], set.sizes()), 1.0005 * cost);
    }
    if (p < whole) cheapest = std::min(cheapest, cost);
    if (p >= whole) dearest_rest = std::max(dearest_rest, cost);
  }
  EXPECT_LE(dearest_rest, 1.0005 * cheapest);
}

TEST(ArrangePacks, FewPacksAndNoPacks) {
  const SampleSet set{1, {3, 5, 4}, {{5}, 0}};
  const std::vector<StreamCost> costs{{1, 0}};
  const PackLimits limits(set.sizes(), set.caps, costs);
  Packs none;
  arrange_packs(none, limits, costs, {}, 4, CounterRng(1));
  EXPECT_EQ(none.size(), 0U);
  Packs packs;
  for (std::uint32_t i = 0; i < 3; ++i) packs.add({&i, 1});
  arrange_packs(packs, limits, costs, std::vector<std::uint32_t>{0, 1, 2}, 4, CounterRng(1));
  EXPECT_EQ(packs.samples, (std::vector<std::uint32_t>{0, 2, 1}));  // an incomplete slot
  EXPECT_THROW(arrange_packs(packs, limits, costs, {}, 0, CounterRng(1)), InternalError);
  EXPECT_THROW(arrange_packs(packs, limits, costs, std::vector<std::uint32_t>{0}, 1, CounterRng(1)),
               InternalError);
}

TEST(ArrangePacks, SeedsGiveOtherOrdersOfTheSameSlots) {
  const SampleSet set = testing::tiled_pictures(2000, 3);
  const PackLimits limits(set.sizes(), set.caps, kCosts);
  const Packs packs = window_packs(limits, random_permutation(2000, CounterRng(1)));
  Packs first = packs, again = packs, other = packs;
  arrange_packs(first, limits, kCosts, {}, 4, CounterRng(1));
  arrange_packs(again, limits, kCosts, {}, 4, CounterRng(1));
  arrange_packs(other, limits, kCosts, {}, 4, CounterRng(2));
  EXPECT_EQ(first.samples, again.samples);
  EXPECT_NE(first.samples, other.samples);
}

// The promise of docs/balance.md on real lengths. Caps (vision, tokens).
struct RealCase {
  std::uint64_t vision, tokens;
  double most_mix;  // of the sources in a slot of 8
};

void PrintTo(const RealCase& c, std::ostream* out) { *out << c.vision << ", " << c.tokens; }

class ArrangeReal : public ::testing::TestWithParam<RealCase> {};

TEST_P(ArrangeReal, WasteTrendAndMixAreSmall) {
  const testing::RealLengths data = testing::real_lengths();
  const PackCaps caps{{GetParam().vision, GetParam().tokens}, 0};
  for (const double per_pair : {0.0, 8e-5}) {
    const std::vector<StreamCost> costs{{600, 0}, {1, per_pair}};
    const PackLimits limits(data.sizes(), caps, costs);
    const auto samples = static_cast<std::uint32_t>(data.sources.size());
    const Packs packs = window_packs(limits, random_permutation(samples, CounterRng(1)));
    for (const std::uint64_t ranks : {8, 64}) {
      Packs arranged = packs;
      arrange_packs(arranged, limits, costs, data.sources, ranks, CounterRng(2));
      const BalanceReport report =
          measure_balance({arranged, data.sizes(), costs, caps, data.sources, ranks, ranks, -1, 3});
      const double most = ranks == 8 ? 0.001 : 0.005;
      EXPECT_LE(report.waste[0], most) << ranks;
      EXPECT_LE(report.waste[1], most) << ranks;
      EXPECT_LE(report.cost_waste, most) << ranks;
      EXPECT_LT(std::abs(report.order_correlation), 0.05) << ranks;
      if (ranks == 8) {
        EXPECT_LE(report.source_mix_ratio, GetParam().most_mix) << per_pair;
      }
    }
  }
}

// At 9, 4096 more than half of the packs are one sample, whose size gives its source away: slots of
// alike packs cannot be mixed like the whole.
INSTANTIATE_TEST_SUITE_P(Caps, ArrangeReal,
                         ::testing::Values(RealCase{16, 5376, 2.0}, RealCase{16, 4096, 2.2},
                                           RealCase{9, 4096, 2.5}));

}  // namespace
}  // namespace gimbal
