#include "gimbal/balance/patterns/generate.h"

#include <gtest/gtest.h>

#include <numeric>

#include "gimbal/balance/patterns/round.h"
#include "gimbal/base/rng.h"

namespace gimbal {
namespace {

// The textbook instance of Chvatal (Linear Programming, 1983, chapter 13): rolls of 100 inches, 97
// of 45, 610 of 36, 395 of 31 and 211 of 14. The linear program needs 452.25 rolls.
PatternProblem rolls() { return {{45, 36, 31, 14}, {100}, {97, 610, 395, 211}}; }

std::vector<std::uint64_t> served(std::span<const PatternColumn> columns,
                                  std::span<const std::uint64_t> use, std::size_t types) {
  std::vector<std::uint64_t> out(types);
  for (std::size_t c = 0; c < columns.size(); ++c) {
    for (const TypeCount& entry : columns[c]) out[entry.type] += entry.count * use[c];
  }
  return out;
}

TEST(GeneratePatterns, SolvesTheTextbookInstance) {
  ColumnOptions options;
  options.gap = 1e-9;
  const GeneratedPatterns found = generate_patterns(rolls(), {}, options);
  EXPECT_TRUE(found.complete);
  EXPECT_NEAR(found.value, 452.25, 1e-6);
  EXPECT_NEAR(found.bound, 452.25, 1e-3);
  EXPECT_LE(found.bound, found.value + 1e-6);
}

TEST(GeneratePatterns, EndsEarlyWhenThatIsEnough) {
  ColumnOptions options;
  options.hopeless = 1e9;
  const GeneratedPatterns first = generate_patterns(rolls(), {}, options);
  EXPECT_FALSE(first.complete);
  EXPECT_GE(first.value, 452.25 - 1e-6);
  options.hopeless = 0;
  int calls = 0;
  options.gap = 1e-9;
  options.progress = [&](double share) {
    EXPECT_GE(share, 0);
    EXPECT_LE(share, 1);
    return ++calls < 1;
  };
  const GeneratedPatterns stopped = generate_patterns(rolls(), {}, options);
  EXPECT_EQ(calls, 1);
  EXPECT_FALSE(stopped.complete);
  // Stopped or not, the bound holds.
  EXPECT_LE(stopped.bound, 452.25 + 1e-6);
}

TEST(GeneratePatterns, GivenColumnsAreUsed) {
  ColumnOptions options;
  options.gap = 1e-9;
  const PatternColumn mixed = {{1, 1}, {2, 2}};
  const GeneratedPatterns found = generate_patterns(rolls(), {mixed, mixed}, options);
  EXPECT_EQ(found.columns.front(), mixed);
  EXPECT_EQ(std::count(found.columns.begin(), found.columns.end(), mixed), 1);
  EXPECT_NEAR(found.value, 452.25, 1e-6);
}

TEST(WholePatterns, ServeAlmostAllOfTheTextbookInstance) {
  ColumnOptions options;
  options.gap = 1e-9;
  const GeneratedPatterns found = generate_patterns(rolls(), {}, options);
  const std::vector<std::uint64_t> demand = {97, 610, 395, 211};
  const auto use = whole_patterns(found.columns, demand);
  const std::uint64_t packs = std::accumulate(use.begin(), use.end(), std::uint64_t{0});
  const auto out = served(found.columns, use, demand.size());
  std::uint64_t left_inches = 0;
  constexpr std::uint64_t kInches[] = {45, 36, 31, 14};
  for (std::size_t t = 0; t < demand.size(); ++t) {
    if (demand[t] > out[t]) left_inches += (demand[t] - out[t]) * kInches[t];
  }
  EXPECT_LE(packs, 453U);
  EXPECT_LE(left_inches, 300U);  // three rolls
}

TEST(WholePatterns, LeaveTypesWithoutAColumnOut) {
  const std::vector<PatternColumn> columns = {{{0, 2}}};
  const std::vector<std::uint64_t> demand = {10, 7};
  EXPECT_EQ(whole_patterns(columns, demand), (std::vector<std::uint64_t>{5}));
}

TEST(WholePatterns, NothingForNoDemand) {
  const std::vector<PatternColumn> columns = {{{0, 2}}};
  const std::vector<std::uint64_t> demand = {0};
  EXPECT_EQ(whole_patterns(columns, demand), (std::vector<std::uint64_t>{0}));
}

}  // namespace
}  // namespace gimbal
