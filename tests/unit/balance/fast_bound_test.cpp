// Lower bounds: never above the true number of packs, and tight where a closed form is known.
#include "gimbal/balance/bound/fast.h"

#include <gtest/gtest.h>

#include <limits>
#include <numeric>

#include "unit/balance/brute_force.h"
#include "unit/balance/check_cases.h"

namespace gimbal {
namespace {

using testing::between;
using testing::check_cases;
using testing::fewest_packs;

std::vector<std::uint32_t> every_sample(std::size_t count) {
  std::vector<std::uint32_t> order(count);
  std::iota(order.begin(), order.end(), 0U);
  return order;
}

std::uint64_t bound_of(const std::vector<std::uint32_t>& rows, std::uint64_t cap) {
  return fast_lower_bound({{rows, 1}, {{cap}, 0}, {}}, every_sample(rows.size()));
}

TEST(FastLowerBound, IsZeroForAnEmptyOrder) { EXPECT_EQ(bound_of({}, 5), 0U); }

TEST(FastLowerBound, IsOneWhenAllFitsTogether) {
  EXPECT_EQ(bound_of({1, 2, 3}, 6), 1U);
  EXPECT_EQ(bound_of({0, 0, 0}, 1), 1U);
}

TEST(FastLowerBound, CountsVolume) {
  EXPECT_EQ(bound_of(std::vector<std::uint32_t>(100, 1), 7), 15U);
  const auto order = every_sample(100);
  const std::vector<std::uint32_t> rows(100, 1);
  EXPECT_EQ(fast_lower_bound({{rows, 1}, {{}, 3}, {}}, order), 34U);
  EXPECT_EQ(fast_lower_bound({{rows, 1}, {{}, 0, 12.5}, std::vector<StreamCost>{{1, 0}}}, order),
            9U);  // at most 12 per pack
}

TEST(FastLowerBound, CountsSamplesOfWhichNoTwoShareAPack) {
  // As in OmniBal's data: 56 % of the samples have 5 tiles and the cap is 9.
  std::vector<std::uint32_t> tiles;
  tiles.insert(tiles.end(), 6387, 1);
  tiles.insert(tiles.end(), 23977, 3);
  tiles.insert(tiles.end(), 652, 4);
  tiles.insert(tiles.end(), 39690, 5);
  EXPECT_EQ(bound_of(tiles, 9), 39690U);
}

TEST(FastLowerBound, CountsSamplesOfWhichNoThreeShareAPack) {
  EXPECT_EQ(bound_of(std::vector<std::uint32_t>(7, 34), 100), 4U);
  EXPECT_EQ(bound_of(std::vector<std::uint32_t>(7, 33), 100), 3U);
}

TEST(FastLowerBound, DropsWhatFitsBesideLargeSamples) {
  // 70 is alone but for what is at most 30; 40 and 40 share: 3 + 2, volume says 4.
  EXPECT_EQ(bound_of({70, 70, 70, 40, 40, 40}, 100), 5U);
}

TEST(FastLowerBound, AddsLimitsUp) {
  // Each limit alone allows two samples of each kind to meet crosswise; together two never fit.
  std::vector<std::uint32_t> rows;
  for (int i = 0; i < 10; ++i) rows.insert(rows.end(), {6, 5});
  for (int i = 0; i < 10; ++i) rows.insert(rows.end(), {5, 6});
  const PackLimits limits({rows, 2}, {{10, 10}, 0}, {});
  EXPECT_GT(fast_lower_bound(limits, every_sample(20)), 11U);  // volume
  EXPECT_LE(fast_lower_bound(limits, every_sample(20)), 20U);
}

TEST(FastLowerBound, CountsWhatDoesNotFitAsAPackEach) {
  EXPECT_EQ(bound_of({11, 12, 5, 5}, 10), 3U);
  EXPECT_EQ(bound_of({11, 12}, 10), 2U);
}

TEST(FastLowerBound, CountsRepeatedEntries) {
  const std::vector<std::uint32_t> rows{6};
  const std::vector<std::uint32_t> order(5, 0);
  EXPECT_EQ(fast_lower_bound({{rows, 1}, {{10}, 0}, {}}, order), 5U);
}

TEST(FastLowerBound, WorksWithTheLargestNumbers) {
  const std::vector<std::uint32_t> rows(1000, std::numeric_limits<std::uint32_t>::max());
  EXPECT_EQ(bound_of(rows, std::uint64_t{1} << 63), 1U);
  EXPECT_EQ(bound_of(rows, std::uint64_t{1} << 32), 1000U);
  EXPECT_EQ(bound_of(rows, std::uint64_t{1} << 33), 500U);
}

// Any few samples: K = 1 to 8 streams, some without a cap, at times with caps on samples and cost.
TEST(FastLowerBoundProperty, IsNeverAboveTheFewestPacks) {
  check_cases(10000, [] {
    const int streams = *between(1, 9);
    const auto most = *rc::gen::element<std::uint32_t>(2, 6, 20, 100, 3000000);
    const auto count = *between<std::size_t>(0, 12);
    std::vector<std::uint32_t> rows(count * static_cast<std::size_t>(streams));
    for (auto& n : rows) n = *between<std::uint32_t>(0, most + 1);
    PackCaps caps;
    for (int k = 0; k < streams; ++k) {
      const bool capped = k == 0 || *between(0, 2) == 0;
      caps.rows.push_back(capped ? *between<std::uint64_t>(most - most / 8, std::uint64_t{3} * most)
                                 : 0);
    }
    caps.samples = *rc::gen::element<std::uint64_t>(0, 0, 2, 3);
    caps.cost = *rc::gen::element(0.0, 2.5 * most);
    const std::vector<StreamCost> costs(static_cast<std::size_t>(streams), StreamCost{0.7, 0.0});
    const PackLimits limits({rows, streams}, caps, costs);
    const auto order = every_sample(count);
    const std::uint64_t bound = fast_lower_bound(limits, order);
    RC_ASSERT(bound <= fewest_packs(limits, order));
    std::uint64_t alone = 0, volume = 0;
    for (int l = 0; l < limits.count(); ++l) {
      std::uint64_t total = 0;
      alone = 0;
      for (const std::uint32_t sample : order) {
        if (limits.fits_alone(sample)) {
          total += limits.demand(sample, l);
        } else {
          ++alone;
        }
      }
      volume = std::max(volume, (total + limits.cap(l) - 1) / limits.cap(l));
    }
    RC_ASSERT(bound >= volume + alone);
  });
}

// One limit and sizes around its simple fractions, where rounding errors would show.
TEST(FastLowerBoundProperty, HoldsAtFractionsOfTheCap) {
  check_cases(10000, [] {
    const auto cap = *between<std::uint64_t>(2, 130);
    const auto count = *between<std::size_t>(1, 13);
    std::vector<std::uint32_t> rows;
    for (std::size_t i = 0; i < count; ++i) {
      const auto part = static_cast<std::uint32_t>(cap / *between<std::uint64_t>(1, 7));
      const auto off = *between<std::uint32_t>(0, 3);
      rows.push_back(
          std::min(static_cast<std::uint32_t>(cap), part + off == 0 ? 0 : part + off - 1));
    }
    const PackLimits limits({rows, 1}, {{cap}, 0}, {});
    const auto order = every_sample(count);
    RC_ASSERT(fast_lower_bound(limits, order) <= fewest_packs(limits, order));
  });
}

}  // namespace
}  // namespace gimbal
