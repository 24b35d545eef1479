// The exact solver of the tests against a second one that works differently.
#include "unit/balance/brute_force.h"

#include <gtest/gtest.h>

#include <limits>
#include <numeric>

#include "unit/balance/check_cases.h"

namespace gimbal {
namespace {

using testing::between;
using testing::check_cases;
using testing::fewest_packs;

std::vector<std::uint32_t> first_samples(std::size_t count) {
  std::vector<std::uint32_t> order(count);
  std::iota(order.begin(), order.end(), 0U);
  return order;
}

// Dynamic programming over subsets: best[s] = 1 + the least best[s without a pack].
std::uint64_t fewest_by_subsets(const PackLimits& limits, std::span<const std::uint32_t> order) {
  const std::size_t num_sets = std::size_t{1} << order.size();
  std::vector<bool> fits(num_sets, true);
  for (std::size_t s = 1; s < num_sets; ++s) {
    std::size_t members = 0;
    for (int l = 0; l < limits.count(); ++l) {
      std::uint64_t sum = 0;
      members = 0;
      for (std::size_t i = 0; i < order.size(); ++i) {
        if ((s >> i & 1) == 0) continue;
        ++members;
        sum += limits.demand(order[i], l);
      }
      if (sum > limits.cap(l)) fits[s] = false;
    }
    if (members == 1) fits[s] = true;  // alone, even above a cap
  }
  std::vector<std::uint64_t> best(num_sets, 0);
  for (std::size_t s = 1; s < num_sets; ++s) {
    best[s] = order.size();
    for (std::size_t pack = s; pack > 0; pack = (pack - 1) & s) {
      if (fits[pack]) best[s] = std::min(best[s], 1 + best[s ^ pack]);
    }
  }
  return best[num_sets - 1];
}

TEST(BruteForce, KnowsSmallCases) {
  const std::vector<std::uint32_t> rows{6, 6, 5, 5, 4, 4};
  const PackLimits limits({rows, 1}, {{10}, 0}, {});
  EXPECT_EQ(fewest_packs(limits, first_samples(6)), 3U);  // 6+4, 6+4, 5+5
  EXPECT_EQ(fewest_packs(limits, first_samples(0)), 0U);
  EXPECT_EQ(fewest_packs(limits, first_samples(1)), 1U);
  // First fit decreasing needs 3 packs: 4+4, 3+3+3, 3.
  const std::vector<std::uint32_t> fours{4, 4, 3, 3, 3, 3};
  EXPECT_EQ(fewest_packs({{fours, 1}, {{10}, 0}, {}}, first_samples(6)), 2U);
}

TEST(BruteForce, CountsOversizeEntriesAndRepeatedOnes) {
  const std::vector<std::uint32_t> rows{11, 3};
  const PackLimits limits({rows, 1}, {{10}, 0}, {});
  EXPECT_EQ(fewest_packs(limits, std::vector<std::uint32_t>{0, 0, 1, 1, 1, 1}), 4U);
}

TEST(BruteForce, WorksWithTheLargestNumbers) {
  const std::vector<std::uint32_t> rows(12, std::numeric_limits<std::uint32_t>::max());
  const std::uint64_t most = std::uint64_t{1} << 63;
  EXPECT_EQ(fewest_packs({{rows, 1}, {{most}, 0}, {}}, first_samples(12)), 1U);
  EXPECT_EQ(fewest_packs({{rows, 1}, {{std::uint64_t{1} << 33}, 0}, {}}, first_samples(12)), 6U);
}

TEST(BruteForceProperty, EqualsDynamicProgrammingOverSubsets) {
  check_cases(2000, [] {
    const int streams = *between(1, 4);
    const auto most = *rc::gen::element<std::uint32_t>(3, 9, 40);
    const auto count = *between<std::size_t>(0, 9);
    std::vector<std::uint32_t> rows(count * static_cast<std::size_t>(streams));
    for (auto& n : rows) n = *between<std::uint32_t>(0, most + 1);
    PackCaps caps;
    for (int k = 0; k < streams; ++k) {
      caps.rows.push_back(*between<std::uint64_t>(most - 1, std::uint64_t{3} * most));
    }
    caps.samples = *rc::gen::element<std::uint64_t>(0, 2, 3);
    const PackLimits limits({rows, streams}, caps, {});
    const auto order = first_samples(count);
    RC_ASSERT(fewest_packs(limits, order) == fewest_by_subsets(limits, order));
  });
}

}  // namespace
}  // namespace gimbal
