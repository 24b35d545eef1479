#include "gimbal/balance/patterns/knapsack.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <functional>

namespace gimbal {
namespace {

std::int64_t value_of(const PatternColumn& pattern, std::span<const std::int32_t> values) {
  std::int64_t value = 0;
  for (const TypeCount& entry : pattern) value += std::int64_t{entry.count} * values[entry.type];
  return value;
}

bool within(const PatternColumn& pattern, const std::vector<std::uint32_t>& cells,
            const std::vector<std::uint32_t>& caps) {
  for (std::size_t d = 0; d < caps.size(); ++d) {
    std::uint64_t used = 0;
    for (const TypeCount& entry : pattern)
      used += std::uint64_t{entry.count} * cells[entry.type * caps.size() + d];
    if (used > caps[d]) return false;
  }
  return true;
}

// The best value of a pattern, by trying every one.
std::int64_t best_by_trying(const std::vector<std::uint32_t>& cells,
                            const std::vector<std::uint32_t>& caps,
                            const std::vector<std::int32_t>& values) {
  std::vector<std::uint32_t> room = caps;
  std::function<std::int64_t(std::size_t)> from = [&](std::size_t type) -> std::int64_t {
    if (type == values.size()) return 0;
    std::int64_t best = from(type + 1);
    bool fits = true;
    for (std::size_t d = 0; d < caps.size(); ++d)
      fits = fits && cells[type * caps.size() + d] <= room[d];
    if (!fits) return best;
    for (std::size_t d = 0; d < caps.size(); ++d) room[d] -= cells[type * caps.size() + d];
    best = std::max(best, values[type] + from(type));
    for (std::size_t d = 0; d < caps.size(); ++d) room[d] += cells[type * caps.size() + d];
    return best;
  };
  return from(0);
}

TEST(Knapsack, FindsTheBestPatternOfHandMadeTypes) {
  // A pack of 10 x 10: two of (5, 5) are worth 8; (10, 1) and (0, 9) together 9.
  Knapsack knapsack({5, 5, 10, 1, 0, 9}, {10, 10});
  EXPECT_EQ(knapsack.solve(std::vector<std::int32_t>{4, 6, 3}), 9);
  EXPECT_EQ(knapsack.value_with(0), 8);
  EXPECT_EQ(knapsack.pattern_with(0), (PatternColumn{{0, 2}}));
  EXPECT_EQ(knapsack.pattern_with(2), (PatternColumn{{1, 1}, {2, 1}}));
}

TEST(Knapsack, TypesWithoutValueAreNotTaken) {
  Knapsack knapsack({3, 1}, {9});
  EXPECT_EQ(knapsack.solve(std::vector<std::int32_t>{5, 0}), 15);
  EXPECT_EQ(knapsack.pattern_with(0), (PatternColumn{{0, 3}}));
}

TEST(Knapsack, EqualsTryingEveryPattern) {
  rc::check("best value, and a pattern that has it", [] {
    const auto dims = static_cast<std::size_t>(*rc::gen::inRange(1, 4));
    std::vector<std::uint32_t> caps;
    for (std::size_t d = 0; d < dims; ++d)
      caps.push_back(static_cast<std::uint32_t>(*rc::gen::inRange(2, 9)));
    const auto types = static_cast<std::size_t>(*rc::gen::inRange(1, 5));
    std::vector<std::uint32_t> cells;
    std::vector<std::int32_t> values;
    for (std::size_t t = 0; t < types; ++t) {
      for (std::size_t d = 0; d < dims; ++d)
        cells.push_back(
            static_cast<std::uint32_t>(*rc::gen::inRange(1, static_cast<int>(caps[d]) + 1)));
      values.push_back(*rc::gen::inRange(0, 100));
    }
    Knapsack knapsack(cells, caps);
    const std::int64_t best = knapsack.solve(values);
    RC_ASSERT(best == best_by_trying(cells, caps, values));
    std::int64_t best_with = 0;
    for (std::uint32_t t = 0; t < types; ++t) {
      const PatternColumn pattern = knapsack.pattern_with(t);
      RC_ASSERT(within(pattern, cells, caps));
      RC_ASSERT(value_of(pattern, values) == knapsack.value_with(t));
      best_with = std::max(best_with, knapsack.value_with(t));
    }
    RC_ASSERT(best_with == best);
  });
}

}  // namespace
}  // namespace gimbal
