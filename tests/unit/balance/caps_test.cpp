#include "gimbal/balance/caps/caps.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "base/temp_folder.h"
#include "gimbal/balance/caps/cap_budget.h"
#include "gimbal/balance/caps/cap_trial.h"
#include "gimbal/base/error.h"
#include "gimbal/base/rng.h"

namespace gimbal {
namespace {

using testing::message_of;

const std::vector<std::string> kNames{"vision", "tokens"};

struct Mix {
  std::vector<std::uint32_t> rows;
  SampleSizes sizes() const { return {rows, 2, {}, kNames}; }
  void add(std::uint32_t vision, std::uint32_t tokens, int times = 1) {
    for (int i = 0; i < times; ++i) rows.insert(rows.end(), {vision, tokens});
  }
};

// Caps on tokens; vision is sought. A tile costs as much as 256 tokens.
CapSearch vision_search(std::uint64_t tokens_cap) {
  CapSearch search;
  search.stream = 0;
  search.caps.rows = {0, tokens_cap};
  search.costs = {{256, 0}, {1, 0}};
  return search;
}

std::uint64_t vision_cap(const CapPoint& point) { return point.caps.rows[0]; }

void expect_sound(const CapChoice& choice, const SampleSizes& sizes, std::uint64_t start) {
  ASSERT_FALSE(choice.curve.empty());
  EXPECT_TRUE(std::is_sorted(
      choice.curve.begin(), choice.curve.end(),
      [](const CapPoint& x, const CapPoint& y) { return vision_cap(x) < vision_cap(y); }));
  std::uint64_t largest = 0;
  for (std::size_t i = 0; i < sizes.num_samples(); ++i)
    largest = std::max<std::uint64_t>(largest, sizes.at(i, 0));
  EXPECT_GE(vision_cap(choice.curve.front()), largest);
  double least = std::numeric_limits<double>::infinity();
  for (const CapPoint& p : choice.curve) {
    least = std::min(least, p.cost_per_sample);
    EXPECT_TRUE(std::isfinite(p.cost_per_sample));
    EXPECT_GE(p.error, 0);
    EXPECT_LE(p.fill, 1 + 1e-9);
  }
  int chosen = 0, started = 0;
  for (const CapPoint& p : choice.curve) {
    if (vision_cap(p) == start) ++started;
    if (vision_cap(p) < choice.caps.rows[0]) {
      EXPECT_GT(p.cost_per_sample, least * 1.001);
    }
    if (p.caps.rows != choice.caps.rows) continue;
    ++chosen;
    EXPECT_LE(p.cost_per_sample, least * 1.001);
  }
  EXPECT_EQ(chosen, 1);
  EXPECT_EQ(started, 1);
}

TEST(ChooseCap, FillsBothStreamsOfEqualSamples) {
  Mix mix;
  mix.add(5, 1000, 400);
  for (const bool parallel : {true, false}) {
    CapSearch search = vision_search(4000);
    search.phases_in_parallel = parallel;
    const CapChoice choice = choose_cap(mix.sizes(), search);
    EXPECT_EQ(choice.closed_form, 20U);
    EXPECT_EQ(choice.caps.rows, (std::vector<std::uint64_t>{20, 4000}));
    EXPECT_EQ(choice.curve.size(), 16U);  // 5 .. 20
    EXPECT_DOUBLE_EQ(choice.curve.back().packs, 100);
    EXPECT_DOUBLE_EQ(choice.curve.back().fill, 1);
    // The default overhead: 2 % of a full pack. Nothing is wasted in a full pack.
    EXPECT_DOUBLE_EQ(choice.pack_overhead, 0.02 * 4 * (5 * 256 + 1000));
    EXPECT_NEAR(choice.curve.back().cost_per_sample, 1.02 * (5 * 256 + 1000), 1e-6);
    expect_sound(choice, mix.sizes(), 20);
  }
}

TEST(ChooseCap, SharesThePicturesWhenPhasesRunInParallel) {
  // Half of the samples have pictures: two of them a pack keep both phases busy; more in one pack
  // means fewer in another.
  Mix mix;
  for (int i = 0; i < 500; ++i) {
    mix.add(5, 1300);
    mix.add(0, 1300);
  }
  const CapSearch search = vision_search(5200);
  const CapChoice choice = choose_cap(mix.sizes(), search);
  EXPECT_EQ(choice.closed_form, 10U);
  EXPECT_EQ(choice.caps.rows[0], 10U);
  expect_sound(choice, mix.sizes(), 10);
  EXPECT_GT(choice.curve.back().cost_per_sample, 1.02 * choice.curve[5].cost_per_sample);
}

TEST(ChooseCap, LargerIsNeverWorseWhenOnlyOverheadCounts) {
  Mix mix;
  mix.add(5, 1000, 400);
  CapSearch search = vision_search(8000);
  search.phases_in_parallel = false;
  search.pack_overhead = 500;
  search.ranks = 1;  // more would wait for the incomplete last packs
  const CapChoice choice = choose_cap(mix.sizes(), search);
  EXPECT_EQ(choice.pack_overhead, 500);
  for (std::size_t i = 1; i < choice.curve.size(); ++i) {
    EXPECT_LE(choice.curve[i].cost_per_sample, choice.curve[i - 1].cost_per_sample * 1.0005);
    EXPECT_LE(choice.curve[i].packs, choice.curve[i - 1].packs);
  }
  EXPECT_EQ(choice.caps.rows[0], 40U);
}

TEST(ChooseCap, SplitsAMemoryBudget) {
  Mix mix;
  mix.add(5, 1000, 300);
  CapSearch search = vision_search(0);
  search.caps.rows.clear();
  search.memory_bytes = 6000;
  search.bytes_per_row = {100, 1};  // 1,500 bytes a sample: four samples
  const CapChoice choice = choose_cap(mix.sizes(), search);
  EXPECT_EQ(choice.closed_form, 20U);
  EXPECT_EQ(choice.caps.rows, (std::vector<std::uint64_t>{20, 4000}));
  expect_sound(choice, mix.sizes(), 20);
  for (const CapPoint& p : choice.curve) {
    EXPECT_LE(100 * p.caps.rows[0] + p.caps.rows[1], 6000U);
    EXPECT_GE(p.caps.rows[1], 1000U);
  }
  // A given cap still holds.
  search.caps.rows = {0, 2000};
  const CapChoice capped = choose_cap(mix.sizes(), search);
  EXPECT_EQ(capped.caps.rows, (std::vector<std::uint64_t>{10, 2000}));
}

TEST(ChooseCap, TakesTheWholeBudgetForOneStream) {
  Mix mix;
  mix.add(7, 1, 100);
  std::vector<std::uint32_t> rows(100, 7);
  CapSearch search;
  search.costs = {{1, 0}};
  search.memory_bytes = 71;
  search.bytes_per_row = {2};
  const CapChoice choice = choose_cap({rows, 1}, search);
  EXPECT_EQ(choice.closed_form, 35U);
  EXPECT_EQ(choice.caps.rows[0], 35U);
}

TEST(ChooseCap, SearchesWideRanges) {
  const CounterRng rng(5);
  Mix mix;
  for (std::uint64_t i = 0; i < 6000; ++i) {
    const auto patches = static_cast<std::uint32_t>(16 * std::exp(6 * rng.uniform(2 * i)));
    mix.add(patches, patches / 4 + static_cast<std::uint32_t>(rng.below(2 * i + 1, 800)));
  }
  CapSearch search = vision_search(8192);
  search.costs = {{0.3, 1e-5}, {1, 1e-5}};
  const CapChoice choice = choose_cap(mix.sizes(), search);
  expect_sound(choice, mix.sizes(),
               std::clamp(choice.closed_form, vision_cap(choice.curve.front()),
                          vision_cap(choice.curve.back())));
  EXPECT_LE(choice.curve.size(), 120U);
  EXPECT_LT(choice.curve.front().error, 0.02 * choice.curve.front().cost_per_sample);
  // The same seed, the same curve; another one, other draws.
  const CapChoice again = choose_cap(mix.sizes(), search);
  EXPECT_EQ(again.curve.front().cost_per_sample, choice.curve.front().cost_per_sample);
  search.seed = 1;
  EXPECT_NE(choose_cap(mix.sizes(), search).curve.front().cost_per_sample,
            choice.curve.front().cost_per_sample);
}

TEST(ChooseCap, WorksWithCapsOnSamplesAndCost) {
  Mix mix;
  mix.add(5, 1000, 300);
  CapSearch search = vision_search(0);
  search.caps.samples = 3;
  EXPECT_EQ(choose_cap(mix.sizes(), search).caps.rows[0], 15U);
  search.caps.samples = 0;
  search.caps.cost = 2 * (5 * 256 + 1000) + 1;
  EXPECT_EQ(choose_cap(mix.sizes(), search).caps.rows[0], 10U);
}

TEST(ChooseCap, LeavesOutWhatExceedsAGivenCap) {
  Mix mix;
  mix.add(5, 1000, 100);
  mix.add(60, 9000, 1);
  const CapChoice choice = choose_cap(mix.sizes(), vision_search(4000));
  EXPECT_EQ(choice.caps.rows[0], 20U);
  EXPECT_DOUBLE_EQ(choice.curve.back().packs, 25);
}

TEST(ChooseCap, TakesEdgeCases) {
  Mix one;
  one.add(3, 50);
  const CapChoice single = choose_cap(one.sizes(), vision_search(100));
  EXPECT_EQ(single.closed_form, 6U);
  EXPECT_EQ(single.caps.rows[0], 3U);

  Mix blind;  // no pictures at all
  blind.add(0, 50, 10);
  EXPECT_EQ(choose_cap(blind.sizes(), vision_search(100)).caps.rows[0], 1U);

  Mix huge;
  huge.add(4'294'967'295U, 4'294'967'295U, 20);
  const CapChoice large = choose_cap(huge.sizes(), vision_search(std::uint64_t{1} << 63));
  EXPECT_GE(large.caps.rows[0], 4'294'967'295U);

  Mix free;
  free.add(2, 10, 40);
  CapSearch nothing_costs = vision_search(40);
  nothing_costs.costs = {{0, 0}, {0, 0}};
  EXPECT_EQ(choose_cap(free.sizes(), nothing_costs).caps.rows[0], 2U);
}

TEST(ChooseCap, RefusesWhatItCannotChoose) {
  Mix mix;
  mix.add(5, 1000, 10);
  const auto message = [&](const std::function<void(CapSearch&)>& change) {
    CapSearch search = vision_search(4000);
    change(search);
    return message_of<UserError>([&] { choose_cap(mix.sizes(), search); });
  };
  const double nan = std::nan("");
  EXPECT_NE(message([](CapSearch& s) { s.caps.rows.clear(); }).find("cap on vision"),
            std::string::npos);
  EXPECT_NE(message([](CapSearch& s) {
              s.caps.rows = {16, 0};
            }).find("memory budget"),
            std::string::npos);
  EXPECT_NE(message([](CapSearch& s) {
              s.caps.rows = {0, 999};
            }).find("raise them"),
            std::string::npos);
  EXPECT_NE(message([&](CapSearch& s) { s.costs[1].per_row = nan; }).find("cost per row"),
            std::string::npos);
  EXPECT_NE(message([](CapSearch& s) { s.costs[0].per_pair = -1; }).find("cost per pair"),
            std::string::npos);
  EXPECT_NE(message([&](CapSearch& s) { s.pack_overhead = nan; }).find("overhead"),
            std::string::npos);
  EXPECT_NE(message([](CapSearch& s) { s.caps.cost = -1; }).find("cap on cost"), std::string::npos);
  EXPECT_NE(message([&](CapSearch& s) { s.memory_bytes = nan; }).find("memory"), std::string::npos);
  EXPECT_NE(message([](CapSearch& s) { s.ranks = 0; }).find("1 rank"), std::string::npos);
  EXPECT_NE(message([](CapSearch& s) {
              s.memory_bytes = 100;
              s.bytes_per_row = {1};
            }).find("of the 2 streams"),
            std::string::npos);
  EXPECT_NE(message([](CapSearch& s) {
              s.memory_bytes = 100;
              s.bytes_per_row = {1, -1};
            }).find("bytes per row"),
            std::string::npos);
  EXPECT_NE(message([](CapSearch& s) {
              s.memory_bytes = 1004;
              s.bytes_per_row = {1, 1};
            }).find("sample 0 alone needs 1005 bytes"),
            std::string::npos);
  EXPECT_NE(message([](CapSearch& s) { s.costs[0].per_row = 1e308; }).find("larger unit"),
            std::string::npos);
}

TEST(CanChooseCap, SaysNoWhereTheDataOrTheLimitsGiveNone) {
  Mix mix;
  mix.add(5, 1000, 10);
  const auto can = [&](const Mix& samples, const std::function<void(CapSearch&)>& change) {
    CapSearch search = vision_search(4000);
    change(search);
    return can_choose_cap(samples.sizes(), search);
  };
  const auto as_it_is = [](CapSearch&) {};
  EXPECT_TRUE(can(mix, as_it_is));
  EXPECT_FALSE(can(Mix{}, as_it_is));
  EXPECT_FALSE(can(mix, [](CapSearch& s) { s.caps.rows = {16, 0}; }));
  EXPECT_FALSE(can(mix, [](CapSearch& s) { s.caps.rows = {0, 999}; }));
  EXPECT_FALSE(can(mix, [](CapSearch& s) { s.costs[0].per_row = 1e308; }));
  EXPECT_FALSE(can(mix, [](CapSearch& s) {
    s.memory_bytes = 1004;
    s.bytes_per_row = {1, 1};
  }));
  Mix untied;  // the capped stream has no rows
  untied.add(5, 0, 10);
  EXPECT_FALSE(can(untied, as_it_is));
  EXPECT_TRUE(can(untied, [](CapSearch& s) { s.caps.samples = 4; }));
  EXPECT_THROW(can(mix, [](CapSearch& s) { s.ranks = 0; }), UserError);
}

TEST(ChooseCap, RefusesDataThatGiveNoCap) {
  Mix none;
  EXPECT_NE(message_of<UserError>([&] {
              choose_cap(none.sizes(), vision_search(100));
            }).find("no samples"),
            std::string::npos);
  Mix untied;  // the capped stream has no rows
  untied.add(5, 0, 10);
  EXPECT_NE(message_of<UserError>([&] {
              choose_cap(untied.sizes(), vision_search(100));
            }).find("give the cap as a number"),
            std::string::npos);
  Mix crossed;  // each sample fits, but not the caps that hold both
  crossed.add(50, 10);
  crossed.add(5, 90);
  CapSearch search = vision_search(0);
  search.memory_bytes = 100;
  search.bytes_per_row = {1, 1};
  EXPECT_NE(message_of<UserError>([&] {
              choose_cap(crossed.sizes(), search);
            }).find("largest sample of every stream"),
            std::string::npos);
}

RC_GTEST_PROP(ChooseCap, IsSoundOnAnyMix, ()) {
  const CounterRng rng(*rc::gen::arbitrary<std::uint64_t>());
  const auto count = *rc::gen::inRange<std::uint32_t>(1, 40);
  const auto widest = *rc::gen::element<std::uint32_t>(1, 6, 3000);
  Mix mix;
  for (std::uint32_t i = 0; i < count; ++i)
    mix.add(static_cast<std::uint32_t>(rng.below(2 * i, widest + 1)),
            1 + static_cast<std::uint32_t>(rng.below(2 * i + 1, 900)));
  CapSearch search = vision_search(900 + rng.below(1000, 3000));
  search.phases_in_parallel = rng.below(1001, 2) == 0;
  search.ranks = 1 + rng.below(1002, 10);
  if (rng.below(1003, 3) == 0) {
    search.memory_bytes = static_cast<double>(5000 + widest * 3);
    search.bytes_per_row = {3, 1};
  }
  const CapChoice choice = choose_cap(mix.sizes(), search);
  expect_sound(choice, mix.sizes(),
               std::clamp(choice.closed_form, vision_cap(choice.curve.front()),
                          vision_cap(choice.curve.back())));
  for (const CapPoint& p : choice.curve) {
    RC_ASSERT(search.memory_bytes == 0 ||
              3 * static_cast<double>(p.caps.rows[0]) + static_cast<double>(p.caps.rows[1]) <=
                  search.memory_bytes);
  }
}

TEST(ShareBudget, KeepsRangesAndTheBudget) {
  using Caps = std::vector<std::uint64_t>;
  EXPECT_EQ(share_budget(1000, std::vector<BudgetStream>{{1, 10, 10, 0}, {2, 20, 20, 0}}),
            (Caps{200, 400}));
  // The first needs 500; the second gets what is left.
  EXPECT_EQ(share_budget(1000, std::vector<BudgetStream>{{1, 10, 500, 0}, {2, 20, 20, 0}}),
            (Caps{500, 250}));
  // The first wants no more than 50.
  EXPECT_EQ(share_budget(1000, std::vector<BudgetStream>{{1, 10, 10, 50}, {2, 20, 20, 0}}),
            (Caps{50, 475}));
  EXPECT_EQ(share_budget(1000, std::vector<BudgetStream>{{1, 0, 1, 0}}), Caps{1});
  EXPECT_EQ(share_budget(7, std::vector<BudgetStream>{}), Caps{});
}

TEST(PackTimes, FollowTheFormulas) {
  Mix mix;
  mix.add(1, 30);
  mix.add(3, 10);
  Packs packs;
  packs.add(std::vector<std::uint32_t>{0});
  packs.add(std::vector<std::uint32_t>{1});
  const PackTimeModel one_by_one{{{10, 0}, {1, 0}}, 7, false, 1};
  EXPECT_EQ(pack_times(packs, mix.sizes(), one_by_one), (std::vector<double>{47, 47}));
  // Mean 20 and 20: the peaks are 30 / 20 each, of a mean pack of 40.
  PackTimeModel parallel = one_by_one;
  parallel.phases_in_parallel = true;
  EXPECT_EQ(pack_times(packs, mix.sizes(), parallel), (std::vector<double>{67, 67}));
}

TEST(SlotTime, IsTheUpperEndOfSortedSlots) {
  const std::vector<double> times{1, 3, 2, 4};
  EXPECT_DOUBLE_EQ(mean_slot_time(times, 4, 4), 4);     // one slot
  EXPECT_DOUBLE_EQ(mean_slot_time(times, 4, 100), 4);   // fewer packs than ranks
  EXPECT_DOUBLE_EQ(mean_slot_time(times, 4, 2), 3.25);  // ends of the halves: 2.5 and 4
  EXPECT_DOUBLE_EQ(mean_slot_time(times, 4000, 1), 2.5 + 3.0 / 8000);
  EXPECT_DOUBLE_EQ(mean_slot_time({5, 5, 5}, 300, 8), 5);
  EXPECT_DOUBLE_EQ(mean_slot_time({}, 0, 8), 0);
}

}  // namespace
}  // namespace gimbal
