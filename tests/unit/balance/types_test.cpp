#include "gimbal/balance/patterns/types.h"

#include <gtest/gtest.h>

#include "balance/sample_sets.h"
#include "gimbal/balance/patterns/grid.h"
#include "gimbal/base/rng.h"

namespace gimbal {
namespace {

TEST(TypeTree, EveryMemberLiesBetweenLowAndHigh) {
  const testing::SampleSet set = testing::modality_mix(3, 5000, 1);
  const SampleSizes sizes = set.sizes();
  const PackLimits limits(sizes, set.caps, {});
  const auto order = random_permutation(5000, CounterRng(1));
  const TypeTree tree = build_types(limits, order, std::vector<std::uint64_t>{8, 8, 8}, 100);
  EXPECT_EQ(tree.num_types(), 100U);
  const TypedOrder typed = type_samples(tree, limits, order);
  std::vector<std::uint64_t> members(100);
  for (std::size_t i = 0; i < order.size(); ++i) {
    const std::uint32_t type = tree.type_of(limits, order[i]);
    EXPECT_EQ(typed.types[i], type);
    ++members[type];
    for (int l = 0; l < 3; ++l) {
      const std::size_t at = type * 3 + static_cast<std::size_t>(l);
      EXPECT_GE(limits.demand(order[i], l), tree.low[at]);
      EXPECT_LE(limits.demand(order[i], l), tree.high[at]);
    }
  }
  EXPECT_EQ(members, typed.demand);
  EXPECT_EQ(std::count(members.begin(), members.end(), 0U), 0);
}

TEST(TypeTree, EqualSizesAreOneType) {
  const std::vector<std::uint32_t> rows = {5, 100, 5, 100, 1, 30, 5, 100};
  const SampleSizes sizes{rows, 2};
  const PackCaps caps{{16, 200}};
  const PackLimits limits(sizes, caps, {});
  const std::vector<std::uint32_t> order = {0, 1, 2, 3};
  const TypeTree tree = build_types(limits, order, std::vector<std::uint64_t>{1, 1}, 300);
  EXPECT_EQ(tree.num_types(), 2U);
  EXPECT_EQ(tree.type_of(limits, 0), tree.type_of(limits, 3));
  EXPECT_NE(tree.type_of(limits, 0), tree.type_of(limits, 2));
}

TEST(ChooseGrid, KeepsFewValuesExactAndMakesTheGridSmallEnough) {
  const testing::SampleSet set = testing::tiled_pictures(2000, 1);
  const SampleSizes sizes = set.sizes();
  const PackLimits limits(sizes, set.caps, {});
  const auto order = random_permutation(2000, CounterRng(1));
  const auto units = choose_grid(limits, order, 20000).units;
  EXPECT_EQ(units[0], 1U);
  EXPECT_GT(units[1], 1U);
  EXPECT_LE((16 / units[0] + 1) * (5376 / units[1] + 1), 20000U);
}

TEST(ChooseGrid, HugeCapsGetCoarseCells) {
  const std::vector<std::uint32_t> rows = {4000000000U, 3000000000U, 7};
  const SampleSizes sizes{rows, 1};
  const PackCaps caps{{std::uint64_t{1} << 62}};
  const PackLimits limits(sizes, caps, {});
  const PatternGrid grid = choose_grid(limits, std::vector<std::uint32_t>{0, 1, 2}, 1 << 16);
  // No more than the sum of all sizes counts.
  EXPECT_LE(grid.caps[0] + 1, std::uint32_t{1} << 16);
  EXPECT_LE(grid.units[0] * grid.caps[0], std::uint64_t{7000000007});
  EXPECT_GE(grid.units[0] * (grid.caps[0] + 1), std::uint64_t{7000000007});
}

TEST(GridProblem, RoundsUpOrDownAndLeavesOutWhatHasNoSize) {
  const std::vector<std::uint32_t> rows = {15, 9, 3, 0};
  const SampleSizes sizes{rows, 1};
  const PackCaps caps{{20}};
  const PackLimits limits(sizes, caps, {});
  const std::vector<std::uint32_t> order = {0, 1, 2, 3};
  const PatternGrid cells = {{4}, {5}};
  const TypeTree tree = build_types(limits, order, std::vector<std::uint64_t>{1}, 10);
  const auto demand = type_samples(tree, limits, order).demand;
  const GridProblem up = grid_problem(tree, cells, demand, Rounding::kUp);
  EXPECT_EQ(up.problem.caps, (std::vector<std::uint32_t>{5}));
  std::vector<std::uint32_t> sorted = up.problem.cells;
  std::sort(sorted.begin(), sorted.end());
  EXPECT_EQ(sorted, (std::vector<std::uint32_t>{1, 3, 4}));  // 3, 9 and 15; 0 is left out
  const GridProblem down = grid_problem(tree, cells, demand, Rounding::kDown);
  sorted = down.problem.cells;
  std::sort(sorted.begin(), sorted.end());
  EXPECT_EQ(sorted, (std::vector<std::uint32_t>{2, 3}));  // 3 has no size any more
}

}  // namespace
}  // namespace gimbal
