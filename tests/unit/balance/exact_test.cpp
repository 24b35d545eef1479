#include "gimbal/balance/pack/exact.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "balance/brute_force.h"
#include "balance/pack_cases.h"
#include "gimbal/balance/pack/methods.h"

namespace gimbal {
namespace {

TEST(ExactPacks, FindsWhatBestFitDecreasingMisses) {
  // 7+5+3 and 6+4+3+2.
  const std::vector<std::uint32_t> rows = {7, 6, 5, 4, 3, 3, 2};
  const SampleSizes sizes{rows, 1};
  const PackCaps caps{{15}};
  const PackLimits limits(sizes, caps, {});
  const std::vector<std::uint32_t> order = {0, 1, 2, 3, 4, 5, 6};
  bool proven = false;
  const auto packs = exact_packs(limits, order, 7, &proven);
  ASSERT_TRUE(packs.has_value());
  EXPECT_TRUE(proven);
  EXPECT_EQ(packs->size(), 2U);
  EXPECT_FALSE(exact_packs(limits, order, 2).has_value());
}

TEST(ExactPacks, EqualsBruteForceAndSoDoesWindowPacks) {
  testing::check_cases(2000, [] {
    const testing::PackCase c = testing::any_pack_case(1, 11);
    const PackLimits limits = c.limits();
    const std::uint64_t fewest = testing::fewest_packs(limits, c.order);
    const auto packs = exact_packs(limits, c.order, c.order.size() + 1);
    RC_ASSERT(packs.has_value());
    RC_ASSERT(packs->size() == fewest);
    RC_ASSERT(testing::sorted(packs->samples) == testing::sorted(c.order));
    for (std::size_t p = 0; p < packs->size(); ++p)
      RC_ASSERT(testing::keeps_caps(limits, (*packs)[p]));
    RC_ASSERT(window_packs(limits, c.order).size() == fewest);
  });
}

}  // namespace
}  // namespace gimbal
