#include <cmath>

#include "gimbal/balance/pack/methods.h"
#include "unit/balance/pack_cases.h"
#include "unit/balance/sample_sets.h"

namespace gimbal {
namespace {

using testing::ascending;
using testing::packing_fault;
using testing::sorted;

std::vector<std::vector<std::uint32_t>> groups(const Packs& packs) {
  std::vector<std::vector<std::uint32_t>> result;
  for (std::size_t p = 0; p < packs.size(); ++p) {
    result.push_back(sorted({packs[p].begin(), packs[p].end()}));
  }
  std::sort(result.begin(), result.end());
  return result;
}

TEST(BestFitDecreasing, PutsEachIntoTheFullestPackWithRoom) {
  // By hand: 7 | 6 | 7+3 | 6+2, not 7+3 | 6 | 2: the fullest pack with room for 2 is that of 6.
  const std::vector<std::uint32_t> rows{2, 3, 6, 7};
  const PackLimits limits({rows, 1}, {{10}}, {});
  EXPECT_EQ(groups(best_fit_decreasing_packs(limits, ascending(4))),
            (std::vector<std::vector<std::uint32_t>>{{0, 2}, {1, 3}}));
}

TEST(BestFitDecreasing, CountsSizeOverAllLimits) {
  // Shares 1.0, 0.9, 0.8, 0.5: the third joins neither of the first two, the last joins the second.
  const std::vector<std::uint32_t> rows{5, 5, 8, 1, 4, 4, 1, 4};
  const PackLimits limits({rows, 2}, {{10, 10}}, {});
  EXPECT_EQ(groups(best_fit_decreasing_packs(limits, ascending(4))),
            (std::vector<std::vector<std::uint32_t>>{{0, 2}, {1, 3}}));
}

TEST(BestFitDecreasing, IsTheTextbookMethodOnAnyInput) {
  // Against a direct form of the definition; small enough that no packs are alike beyond 2^-6.
  testing::check_cases(2000, [] {
    const CounterRng rng(*rc::gen::arbitrary<std::uint64_t>());
    const auto count = *testing::between<std::size_t>(1, 40);
    std::vector<std::uint32_t> rows;
    for (std::size_t i = 0; i < count; ++i) {
      rows.push_back(1 + static_cast<std::uint32_t>(rng.below(i, 1000)));
    }
    const PackLimits limits({rows, 1}, {{1000}}, {});
    std::vector<std::uint32_t> by_size = ascending(count);
    std::stable_sort(by_size.begin(), by_size.end(),
                     [&](std::uint32_t x, std::uint32_t y) { return rows[x] > rows[y]; });
    std::vector<std::uint32_t> room;
    for (const std::uint32_t sample : by_size) {
      auto best = room.end();
      for (auto at = room.begin(); at != room.end(); ++at) {
        if (*at >= rows[sample] && (best == room.end() || *at < *best)) best = at;
      }
      if (best == room.end()) best = room.insert(room.end(), 1000U);
      *best -= rows[sample];
    }
    const Packs packs = best_fit_decreasing_packs(limits, ascending(count));
    std::vector<std::uint32_t> got;
    for (std::size_t p = 0; p < packs.size(); ++p) {
      std::uint32_t left = 1000;
      for (const std::uint32_t sample : packs[p]) left -= rows[sample];
      got.push_back(left);
    }
    RC_ASSERT(sorted(got) == sorted(room));
  });
}

TEST(BestFitDecreasing, EveryEntryOnceAndNoCapExceeded) {
  testing::check_cases(10000, [] {
    const testing::PackCase drawn = testing::any_pack_case(0, 60);
    const PackLimits limits = drawn.limits();
    const Packs packs = best_fit_decreasing_packs(limits, drawn.order);
    RC_ASSERT(packing_fault(limits, packs, drawn.order) == "");
  });
}

TEST(BestFitDecreasing, ManyEntriesOfFewSizes) {
  const testing::SampleSet set = testing::tiled_pictures(50000, 5);
  const PackLimits limits(set.sizes(), set.caps, {});
  const auto order = random_permutation(50000, CounterRng(3));
  const Packs packs = best_fit_decreasing_packs(limits, order);
  EXPECT_EQ(packing_fault(limits, packs, order), "");
  EXPECT_LT(packs.size(), isf_packs(limits, {0, {}}, order, CounterRng(1)).size());
}

TEST(BestFitDecreasing, AnEntryThatDoesNotFitIsADefect) {
  const std::vector<std::uint32_t> rows{5, 11};
  const PackLimits limits({rows, 1}, {{10}}, {});
  EXPECT_THROW(best_fit_decreasing_packs(limits, ascending(2)), InternalError);
}

}  // namespace
}  // namespace gimbal
