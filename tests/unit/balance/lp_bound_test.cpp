#include "gimbal/balance/bound/lp.h"

#include <gtest/gtest.h>

#include <numeric>

#include "balance/sample_sets.h"
#include "gimbal/balance/bound/fast.h"

namespace gimbal {
namespace {

// One stream, cap 100.
struct Lengths {
  std::vector<std::uint32_t> rows;
  SampleSizes sizes{rows, 1};
  PackLimits limits{sizes, {{100}}, {}};
  std::vector<std::uint32_t> order = [this] {
    std::vector<std::uint32_t> all(rows.size());
    std::iota(all.begin(), all.end(), 0U);
    return all;
  }();

  explicit Lengths(std::vector<std::uint32_t> given) : rows(std::move(given)) {}
};

TEST(LpBoundEnd, SolvedWhenThePatternsAreAllKnown) {
  const Lengths halves(std::vector<std::uint32_t>(9, 50));
  const LpBound bound = lp_lower_bound(halves.limits, halves.order, 20);
  EXPECT_EQ(bound.end, LpEnd::kSolved);
  EXPECT_TRUE(bound.complete());
  EXPECT_EQ(bound.packs, 5U);
  EXPECT_NEAR(bound.value, 4.5, 1e-6);
}

TEST(LpBoundEnd, SolvedWhenNothingIsLeftToPackTogether) {
  const Lengths none({});
  EXPECT_EQ(lp_lower_bound(none.limits, none.order, 20, 1).end, LpEnd::kSolved);
  const Lengths large({101, 200});
  EXPECT_EQ(lp_lower_bound(large.limits, large.order, 20).end, LpEnd::kSolved);
  EXPECT_EQ(lp_lower_bound(large.limits, large.order, 20).packs, 2U);
  const Lengths zeros({0, 0});
  EXPECT_TRUE(lp_lower_bound(zeros.limits, zeros.order, 20).complete());
}

TEST(LpBoundEnd, BelowTheFastBoundIsNoStop) {
  // 1.02 packs by volume, 2 as the fast bound rounds up. Patterns of one size each need 1.46.
  const Lengths few({60, 30, 12});
  ASSERT_EQ(fast_lower_bound(few.limits, few.order), 2U);
  const LpBound bound = lp_lower_bound(few.limits, few.order, 20);
  EXPECT_EQ(bound.end, LpEnd::kBelowFast);
  EXPECT_TRUE(bound.complete());
  EXPECT_EQ(bound.packs, 2U);
  EXPECT_LT(bound.value, 2);
}

TEST(LpBoundEnd, MetWhenTheFastBoundIsThePacking) {
  const Lengths halves(std::vector<std::uint32_t>(9, 50));
  const LpBound bound = lp_lower_bound(halves.limits, halves.order, 20, 5);
  EXPECT_EQ(bound.end, LpEnd::kMetKnown);
  EXPECT_TRUE(bound.complete());
  EXPECT_EQ(bound.packs, 5U);
}

TEST(LpBoundEnd, MetInTheSearch) {
  // Any two of another kind exceed one of the three caps; no single one shows that.
  std::vector<std::uint32_t> rows;
  for (int i = 0; i < 10; ++i) rows.insert(rows.end(), {60, 60, 0, 60, 0, 60, 0, 60, 60});
  const SampleSizes sizes{rows, 3};
  const PackLimits limits(sizes, {{100, 100, 100}}, {});
  std::vector<std::uint32_t> order(sizes.num_samples());
  std::iota(order.begin(), order.end(), 0U);
  ASSERT_LT(fast_lower_bound(limits, order), 30U);
  const LpBound bound = lp_lower_bound(limits, order, 60, 30);
  EXPECT_EQ(bound.end, LpEnd::kMetKnown);
  EXPECT_EQ(bound.packs, 30U);
  EXPECT_NEAR(bound.value, 30, 1e-3);
  EXPECT_EQ(lp_lower_bound(limits, order, 60).end, LpEnd::kSolved);
}

TEST(LpBoundEnd, StoppedByTheCallerOrByTime) {
  const testing::SampleSet set = testing::tiled_pictures(1500, 5);
  const SampleSizes sizes = set.sizes();
  const PackLimits limits(sizes, set.caps, {});
  std::vector<std::uint32_t> order(sizes.num_samples());
  std::iota(order.begin(), order.end(), 0U);
  const std::uint64_t fast = fast_lower_bound(limits, order);
  int calls = 0;
  const LpBound stopped = lp_lower_bound(limits, order, 60, 0, [&](double) {
    ++calls;
    return false;
  });
  EXPECT_EQ(stopped.end, LpEnd::kStopped);
  EXPECT_FALSE(stopped.complete());
  EXPECT_EQ(calls, 1);  // no finer types after that
  EXPECT_GE(stopped.packs, fast);
  const LpBound no_time = lp_lower_bound(limits, order, 0);
  EXPECT_EQ(no_time.end, LpEnd::kStopped);
  EXPECT_FALSE(no_time.complete());
  EXPECT_EQ(no_time.packs, fast);
}

}  // namespace
}  // namespace gimbal
