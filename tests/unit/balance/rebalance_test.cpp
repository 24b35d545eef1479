#include "gimbal/balance/rebalance/rebalance.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "gimbal/base/error.h"
#include "gimbal/base/rng.h"

namespace gimbal {
namespace {

constexpr double kRounding = 1 + 1e-9;

// The least maximum over all assignments; ranks of equal load are tried once.
class LeastMaximum {
 public:
  LeastMaximum(const std::vector<MediaItem>& items, std::uint32_t ranks)
      : items_(items), load_(ranks, 0) {}
  double find() {
    descend(0, 0);
    return best_;
  }

 private:
  void descend(std::size_t i, double peak) {
    if (peak >= best_) return;
    if (i == items_.size()) {
      best_ = peak;
      return;
    }
    for (std::size_t r = 0; r < load_.size(); ++r) {
      const double load = load_[r];
      if (std::find(load_.begin(), load_.begin() + static_cast<std::ptrdiff_t>(r), load) !=
          load_.begin() + static_cast<std::ptrdiff_t>(r))
        continue;
      load_[r] = load + items_[i].cost;
      descend(i + 1, std::max(peak, load_[r]));
      load_[r] = load;
    }
  }

  const std::vector<MediaItem>& items_;
  std::vector<double> load_;
  double best_ = std::numeric_limits<double>::infinity();
};

// Whole or real costs between 1 and 20, a few of them 0, on random owners.
std::vector<MediaItem> random_items(std::uint32_t count, std::uint32_t ranks, std::uint64_t seed) {
  const CounterRng rng(seed);
  const bool whole = rng.below(0, 2) == 0;
  std::vector<MediaItem> items;
  for (std::uint32_t i = 0; i < count; ++i) {
    const double real = rng.below(5 * i + 1, 10) == 0 ? 0 : 1 + 19 * rng.uniform(5 * i + 2);
    const double cost = whole ? std::floor(real) : real;
    items.push_back({static_cast<std::uint32_t>(rng.below(5 * i + 3, ranks)), cost,
                     static_cast<std::uint64_t>(cost * 100), 1 + rng.below(5 * i + 4, 50)});
  }
  return items;
}

void expect_consistent(const RebalancePlan& plan, const std::vector<MediaItem>& items,
                       std::uint32_t ranks) {
  ASSERT_EQ(plan.encoder.size(), items.size());
  ASSERT_EQ(plan.rank_cost.size(), ranks);
  std::vector<std::uint64_t> count(ranks * ranks), in(ranks * ranks), out(ranks * ranks);
  std::vector<double> cost(ranks), before(ranks);
  std::uint64_t moved = 0;
  for (std::size_t i = 0; i < items.size(); ++i) {
    const std::uint32_t to = plan.encoder[i], from = items[i].owner;
    ASSERT_LT(to, ranks);
    ++count[from * ranks + to];
    in[from * ranks + to] += items[i].in_bytes;
    out[from * ranks + to] += items[i].out_bytes;
    cost[to] += items[i].cost;
    before[from] += items[i].cost;
    if (from != to) moved += items[i].in_bytes + items[i].out_bytes;
  }
  EXPECT_EQ(plan.split_items, count);
  EXPECT_EQ(plan.split_in_bytes, in);
  EXPECT_EQ(plan.split_out_bytes, out);
  EXPECT_EQ(plan.moved_bytes, moved);
  EXPECT_EQ(plan.rank_cost, cost);
  EXPECT_EQ(plan.max_cost, *std::max_element(cost.begin(), cost.end()));
  EXPECT_EQ(plan.max_cost_before, *std::max_element(before.begin(), before.end()));
  EXPECT_LE(plan.max_cost, plan.max_cost_before);
  EXPECT_LE(plan.max_cost_lower_bound, plan.max_cost);
}

TEST(Rebalance, LevelsOneFullRank) {
  std::vector<MediaItem> items;
  for (int i = 0; i < 8; ++i) items.push_back({0, 3.0, 10, 4});
  const RebalancePlan plan = plan_rebalance(items, 4);
  EXPECT_EQ(plan.max_cost_before, 24);
  EXPECT_EQ(plan.max_cost, 6);
  EXPECT_EQ(plan.max_cost_lower_bound, 6);
  EXPECT_EQ(plan.moved_bytes, 6U * 14);
  expect_consistent(plan, items, 4);
  EXPECT_EQ(plan.split_items,
            (std::vector<std::uint64_t>{2, 2, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}));
}

TEST(Rebalance, LeavesALevelSlotAlone) {
  const std::vector<MediaItem> items{{0, 5, 1, 1}, {1, 3, 1, 1}, {1, 2, 1, 1}, {2, 5, 1, 1}};
  const RebalancePlan plan = plan_rebalance(items, 3);
  EXPECT_EQ(plan.encoder, (std::vector<std::uint32_t>{0, 1, 1, 2}));
  EXPECT_EQ(plan.moved_bytes, 0U);
}

TEST(Rebalance, SpendsTheToleranceOnFewerBytes) {
  // Level is 10 and 10; 10.1 and 9.9 needs no exchange.
  const std::vector<MediaItem> items{{0, 5.1, 7, 1}, {0, 5, 7, 1}, {1, 5, 7, 1}, {1, 4.9, 7, 1}};
  EXPECT_EQ(plan_rebalance(items, 2, {0.02}).moved_bytes, 0U);
  const RebalancePlan exact = plan_rebalance(items, 2, {0});
  EXPECT_NEAR(exact.max_cost, 10, 1e-9);
  EXPECT_EQ(exact.moved_bytes, 16U);
}

TEST(Rebalance, PrefersTheLighterOfEqualItems) {
  const std::vector<MediaItem> items{
      {0, 1, 900, 10}, {0, 1, 20, 10}, {0, 1, 500, 10}, {1, 1, 1, 1}};
  const RebalancePlan plan = plan_rebalance(items, 2);
  EXPECT_EQ(plan.encoder, (std::vector<std::uint32_t>{0, 1, 0, 1}));
}

TEST(Rebalance, IsNearTheOptimumOnSmallCases) {
  int exact = 0;
  constexpr int kCases = 1500;
  for (int c = 0; c < kCases; ++c) {
    const auto count = static_cast<std::uint32_t>(1 + c % 9);
    const std::uint32_t ranks = 2 + static_cast<std::uint32_t>(c / 9) % 2;
    const auto items = random_items(count, ranks, static_cast<std::uint64_t>(c));
    const double least = LeastMaximum(items, ranks).find();
    const RebalancePlan plan = plan_rebalance(items, ranks, {0.02});
    EXPECT_LE(plan.max_cost, std::max(least * 1.02 * kRounding, 0.0)) << "case " << c;
    EXPECT_LE(plan.max_cost_lower_bound, least * kRounding) << "case " << c;
    exact += plan_rebalance(items, ranks, {0}).max_cost <= least * kRounding ? 1 : 0;
  }
  EXPECT_EQ(exact, kCases);
}

RC_GTEST_PROP(Rebalance, KeepsGrahamsBoundAndItsOwnInvariants, ()) {
  const auto ranks = *rc::gen::inRange<std::uint32_t>(1, 12);
  const auto count = *rc::gen::inRange<std::uint32_t>(0, 60);
  const auto items = random_items(count, ranks, *rc::gen::arbitrary<std::uint64_t>());
  const RebalancePlan plan = plan_rebalance(items, ranks, {0});
  expect_consistent(plan, items, ranks);
  double total = 0, largest = 0;
  for (const MediaItem& item : items) {
    total += item.cost;
    largest = std::max(largest, item.cost);
  }
  // Any list schedule stays below the mean and (1 - 1/m) of the largest item (Graham 1969).
  const double listed = total / ranks + largest * (1 - 1.0 / ranks);
  RC_ASSERT(plan.max_cost <= listed * kRounding);
  const RebalancePlan loose = plan_rebalance(items, ranks, {0.1});
  expect_consistent(loose, items, ranks);
  RC_ASSERT(loose.max_cost <= 1.1 * listed * kRounding);
  RC_ASSERT(plan_rebalance(items, ranks, {1e9}).moved_bytes == 0U);
}

TEST(Rebalance, ReachesTheBoundOnManyItems) {
  const auto items = random_items(1024, 64, 3);
  const RebalancePlan plan = plan_rebalance(items, 64);
  expect_consistent(plan, items, 64);
  EXPECT_LE(plan.max_cost, 1.03 * plan.max_cost_lower_bound);
  // At least what is above the new maximum must leave its rank.
  std::uint64_t all = 0;
  for (const MediaItem& item : items) all += item.in_bytes + item.out_bytes;
  EXPECT_LT(plan.moved_bytes, all / 4);
}

TEST(Rebalance, IsAFunctionOfItsArguments) {
  const auto items = random_items(500, 16, 9);
  const RebalancePlan a = plan_rebalance(items, 16), b = plan_rebalance(items, 16);
  EXPECT_EQ(a.encoder, b.encoder);
}

TEST(Rebalance, TakesEdgeCases) {
  const RebalancePlan none = plan_rebalance({}, 3);
  EXPECT_EQ(none.split_items, std::vector<std::uint64_t>(9, 0));
  EXPECT_EQ(none.max_cost, 0);
  EXPECT_EQ(none.max_cost_lower_bound, 0);

  const auto items = random_items(20, 1, 1);
  EXPECT_EQ(plan_rebalance(items, 1).moved_bytes, 0U);

  const std::vector<MediaItem> free{{2, 0, 5, 5}, {2, 0, 5, 5}, {0, 0, 5, 5}};
  EXPECT_EQ(plan_rebalance(free, 3).moved_bytes, 0U);

  const std::vector<MediaItem> few{{1, 2, 5, 5}, {1, 3, 5, 5}};
  const RebalancePlan spread = plan_rebalance(few, 100);
  expect_consistent(spread, few, 100);
  EXPECT_EQ(spread.max_cost, 3);
  EXPECT_EQ(spread.moved_bytes, 10U);
}

TEST(Rebalance, TakesCostsOfAnyMagnitude) {
  for (const double unit : {1e-320, 1e-300, 1.0, 1e300}) {
    std::vector<MediaItem> items;
    for (int i = 0; i < 6; ++i) items.push_back({0, (i + 1) * unit, 1, 1});
    const RebalancePlan plan = plan_rebalance(items, 3, {0});
    EXPECT_NEAR(plan.max_cost / unit, 7, 1e-3) << unit;
  }
  // An item next to which the others vanish.
  const std::vector<MediaItem> items{{0, 1e30, 1, 1}, {0, 1e-30, 1, 1}, {0, 1, 1, 1}};
  EXPECT_EQ(plan_rebalance(items, 2).max_cost, 1e30);
}

TEST(Rebalance, BoundsWhenItemsMustShare) {
  // Four items of 6 on three ranks: two share one, so 12, not the mean of 8.
  const std::vector<MediaItem> items{{0, 6, 1, 1}, {0, 6, 1, 1}, {1, 6, 1, 1}, {2, 6, 1, 1}};
  const RebalancePlan plan = plan_rebalance(items, 3);
  EXPECT_EQ(plan.max_cost_lower_bound, 12);
  EXPECT_EQ(plan.moved_bytes, 0U);
}

TEST(Rebalance, RefusesWhatItCannotPlan) {
  const double nan = std::nan(""), inf = std::numeric_limits<double>::infinity();
  const std::vector<MediaItem> good{{0, 1, 1, 1}};
  EXPECT_THROW(plan_rebalance(good, 0), UserError);
  EXPECT_THROW(plan_rebalance(good, 20'000), UserError);
  EXPECT_THROW(plan_rebalance(good, 1, {-0.1}), UserError);
  EXPECT_THROW(plan_rebalance(good, 1, {nan}), UserError);
  EXPECT_THROW(plan_rebalance(std::vector<MediaItem>{{2, 1, 1, 1}}, 2), UserError);
  for (const double cost : {nan, inf, -1.0})
    EXPECT_THROW(plan_rebalance(std::vector<MediaItem>{{0, cost, 1, 1}}, 2), UserError);
  EXPECT_THROW(plan_rebalance(std::vector<MediaItem>{{0, 1e308, 1, 1}, {1, 1e308, 1, 1}}, 2),
               UserError);
  const std::uint64_t half = std::uint64_t{1} << 62;
  EXPECT_THROW(plan_rebalance(std::vector<MediaItem>{{0, 1, half, half}}, 2), UserError);
  EXPECT_THROW(plan_rebalance(std::vector<MediaItem>{{0, 1, ~std::uint64_t{0}, 1}}, 2), UserError);
  EXPECT_NO_THROW(plan_rebalance(std::vector<MediaItem>{{0, 1, half, half - 1}}, 2));
}

}  // namespace
}  // namespace gimbal
