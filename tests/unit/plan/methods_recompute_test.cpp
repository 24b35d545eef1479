// Recompute of given cuts, and AdaPipe's joint choice, against trying everything.
#include <gmock/gmock.h>

#include <algorithm>
#include <limits>
#include <optional>

#include "gimbal/plan/methods.h"
#include "plan/methods_cases.h"

namespace gimbal {
namespace {

using testing::all_cuts;
using testing::between;
using testing::BlockCase;
using testing::check_cases;
using testing::cut_case;
using testing::CutCase;
using ::testing::ElementsAre;
using testing::for_all_levels;
using testing::kMicrosecond;
using testing::random_blocks;

constexpr Recompute kKept = Recompute::kKeep;
constexpr Recompute kRecomputed = Recompute::kFull;

StageLayout layout_of(const CutCase& given, std::vector<std::size_t> cuts,
                      Recompute level = Recompute::kFull) {
  return {std::move(cuts), std::vector<Recompute>(given.costs->num_blocks(), level)};
}

// A capacity between what full recompute and keeping everything take on evenly spread blocks.
Bytes random_capacity(const std::vector<BlockCase>& blocks, int num_stages) {
  double total = 0;
  for (const BlockCase& block : blocks) total += block.saved + block.parameters;
  return total * *between(10, 130) / 100.0 * (num_stages + 1) / (2.0 * num_stages) + 50;
}

// The step of AdaPipe's model, from its definition.
Seconds adapipe_step(const CutCase& given, const StageLayout& layout) {
  const auto num_stages = static_cast<int>(layout.num_stages());
  Seconds warm_up = 0, ending = 0, slowest = 0, next_forward = 0, next_backward = 0;
  for (int stage = num_stages - 1; stage >= 0; --stage) {
    const auto s = static_cast<std::size_t>(stage);
    Seconds forward = 0;
    for (std::size_t i = layout.stage_begin[s]; i < layout.stage_begin[s + 1]; ++i) {
      forward += given.costs->forward(i, given.problem.mean);
    }
    const Seconds backward = stage_seconds(*given.costs, layout, s, given.problem.mean) - forward;
    const int after = num_stages - 1 - stage;
    warm_up = forward + (after == 0 ? 0 : std::max(warm_up + next_backward, after * forward));
    ending = backward + (after == 0 ? 0 : std::max(ending + next_forward, after * backward));
    slowest = std::max(slowest, forward + backward);
    next_forward = forward;
    next_backward = backward;
  }
  return warm_up + ending + std::max(given.problem.micro_batches - num_stages, 0) * slowest;
}

TEST(ChooseRecompute, FullAndNoneSayWhetherTheyFit) {
  // A stage keeps 2 x 100 bytes per micro-batch in flight, or 2 x 10.
  const std::vector<BlockCase> blocks(4, {.parameters = 1, .saved = 100});
  const CutCase loose = cut_case(blocks, 2, 1e6);
  StageLayout layout = layout_of(loose, {0, 2, 4});
  EXPECT_TRUE(choose_recompute(loose.problem, RecomputeMethod::kNone, {}, layout));
  EXPECT_THAT(layout.recompute, ElementsAre(kKept, kKept, kKept, kKept));
  EXPECT_TRUE(choose_recompute(loose.problem, RecomputeMethod::kFull, {}, layout));
  EXPECT_THAT(layout.recompute, ElementsAre(kRecomputed, kRecomputed, kRecomputed, kRecomputed));

  const CutCase tight = cut_case(blocks, 2, 150);
  EXPECT_FALSE(choose_recompute(tight.problem, RecomputeMethod::kNone, {}, layout));
  EXPECT_THAT(layout.recompute, ElementsAre(kRecomputed, kRecomputed, kRecomputed, kRecomputed));
  const CutCase hopeless = cut_case(blocks, 2, 10);
  for (const auto method : {RecomputeMethod::kFull, RecomputeMethod::kNone,
                            RecomputeMethod::kOmniBal, RecomputeMethod::kKnapsack}) {
    EXPECT_FALSE(choose_recompute(hopeless.problem, method, {}, layout)) << method_name(method);
    EXPECT_THAT(layout.recompute, ElementsAre(kRecomputed, kRecomputed, kRecomputed, kRecomputed));
  }
}

TEST(ChooseRecompute, KnapsackEqualsTryingAll) {
  check_cases(400, [] {
    const int num_stages = *between(1, 3);
    const auto blocks = random_blocks(static_cast<std::size_t>(num_stages), 5);
    const CutCase given = cut_case(blocks, num_stages, random_capacity(blocks, num_stages));
    const auto cuts = *rc::gen::elementOf(all_cuts(blocks.size(), num_stages));
    StageLayout layout = layout_of(given, cuts);
    const bool found = choose_recompute(given.problem, RecomputeMethod::kKnapsack, {}, layout);
    const auto total_time = [&](const StageLayout& chosen) {
      Seconds sum = 0;
      for (std::size_t stage = 0; stage < chosen.num_stages(); ++stage) {
        sum += stage_seconds(*given.costs, chosen, stage, given.problem.mean);
      }
      return sum;
    };
    Seconds least = std::numeric_limits<Seconds>::infinity();
    for_all_levels(*given.costs, layout_of(given, cuts), [&](const StageLayout& chosen) {
      if (fits(given.problem, chosen)) least = std::min(least, total_time(chosen));
    });
    RC_ASSERT(found == (least < std::numeric_limits<Seconds>::infinity()));
    if (!found) return;
    RC_ASSERT(fits(given.problem, layout));
    RC_ASSERT(std::abs(total_time(layout) - least) <= 1e-9 * least);
  });
}

// Two stages of 4 vision and 4 text layers; a vision layer takes 2 x 90 bytes more when it is kept,
// as the first stage has two micro-batches in flight, a text layer 45.
std::vector<BlockCase> four_and_four() {
  std::vector<BlockCase> blocks(8);
  for (std::size_t i = 0; i < 8; ++i) {
    blocks[i] = {.kind = i < 4 ? BlockKind::kVisionLayer : BlockKind::kTextLayer,
                 .parameters = 10,
                 .saved = i < 4 ? 100 : 50};
  }
  return blocks;
}

TEST(OmniBalRecompute, LetsOffOneLayerLessThanTheMemoryAllowsLastFirst) {
  const CutCase probe = cut_case(four_and_four(), 2, 1e6);
  const StageLayout full = layout_of(probe, {0, 4, 8});
  const Bytes first = stage_bytes(probe.problem, full, 0);
  ASSERT_GT(first, stage_bytes(probe.problem, full, 1));
  // First stage: 3.5 vision layers are left, so floor(3.5) - 1 = 2. The last has more than enough.
  const CutCase given = cut_case(four_and_four(), 2, first + 3.5 * 180);
  StageLayout layout = full;
  ASSERT_TRUE(choose_recompute(given.problem, RecomputeMethod::kOmniBal, {}, layout));
  EXPECT_THAT(layout.recompute,
              ElementsAre(kRecomputed, kRecomputed, kKept, kKept, kKept, kKept, kKept, kKept));
  // A reserve of one layer more is one layer less.
  StageLayout careful = full;
  ASSERT_TRUE(
      choose_recompute(given.problem, RecomputeMethod::kOmniBal, {.reserve_bytes = 180}, careful));
  EXPECT_THAT(careful.recompute, ElementsAre(kRecomputed, kRecomputed, kRecomputed, kKept, kKept,
                                             kKept, kKept, kKept));
}

TEST(OmniBalRecompute, LetsLanguageLayersOffFirstInAMixedStage) {
  // One stage of 2 vision layers and another of 2 vision and 4 text layers: the last stage's text
  // layers take 45 each, the first stage's vision layers 180.
  const CutCase probe = cut_case(four_and_four(), 2, 1e6);
  const StageLayout full = layout_of(probe, {0, 2, 8});
  const Bytes last = stage_bytes(probe.problem, full, 1);
  // What both kinds are estimated to take follows from the two stages together:
  //   2 x = 2 * 180,  2 x + 4 y = 2 * 90 + 4 * 45  ->  x = 180, y = 0
  // so language layers look free, and vision layers are let off one less than the rest allows.
  const CutCase given = cut_case(four_and_four(), 2, last + 2.5 * 180);
  StageLayout layout = full;
  ASSERT_TRUE(choose_recompute(given.problem, RecomputeMethod::kOmniBal, {}, layout));
  EXPECT_EQ(layout.recompute[3], kKept);
  for (std::size_t i = 4; i < 8; ++i) EXPECT_EQ(layout.recompute[i], kKept);
}

TEST(OmniBalRecompute, RaisesTheReserveUntilTheCountsFit) {
  // A stage of vision layers and three of text layers. The last stage has one micro-batch in
  // flight, so a text layer seems to take 90 bytes. In the second stage it takes three times that:
  // ten layers' worth of free memory looks enough for all four, but holds three.
  std::vector<BlockCase> blocks(16, {.kind = BlockKind::kTextLayer, .parameters = 1, .saved = 100});
  for (std::size_t i = 0; i < 4; ++i) blocks[i].kind = BlockKind::kVisionLayer;
  const CutCase probe = cut_case(blocks, 4, 1e6);
  const StageLayout full = layout_of(probe, {0, 4, 8, 12, 16});
  const CutCase given = cut_case(blocks, 4, stage_bytes(probe.problem, full, 1) + 1000);
  StageLayout layout = full;
  ASSERT_TRUE(choose_recompute(given.problem, RecomputeMethod::kOmniBal, {}, layout));
  EXPECT_TRUE(fits(given.problem, layout));
  const auto kept_in = [&](std::size_t stage) {
    const auto begin = layout.recompute.begin() + static_cast<std::ptrdiff_t>(4 * stage);
    return std::count(begin, begin + 4, kKept);
  };
  EXPECT_GE(kept_in(1), 1);
  EXPECT_LE(kept_in(1), 3);
  EXPECT_EQ(kept_in(3), 4);
}

TEST(OmniBalRecompute, AlwaysFitsWhenItSaysSo) {
  check_cases(300, [] {
    const int num_stages = *between(1, 5);
    const auto blocks = random_blocks(static_cast<std::size_t>(num_stages), 12);
    const CutCase given = cut_case(blocks, num_stages, random_capacity(blocks, num_stages));
    const auto cuts = *rc::gen::elementOf(all_cuts(blocks.size(), num_stages));
    StageLayout layout = layout_of(given, cuts);
    const bool full_fits = fits(given.problem, layout);
    const bool found = choose_recompute(given.problem, RecomputeMethod::kOmniBal, {}, layout);
    RC_ASSERT(found == full_fits);
    RC_ASSERT(!found || fits(given.problem, layout));
    // Whole layers, and in every stage the recomputed ones come first.
    for (std::size_t stage = 0; stage < layout.num_stages(); ++stage) {
      bool kept_before = false;
      for (std::size_t i = cuts[stage]; i < cuts[stage + 1]; ++i) {
        RC_ASSERT(layout.recompute[i] == kKept || layout.recompute[i] == kRecomputed);
        RC_ASSERT(!(kept_before && layout.recompute[i] == kRecomputed));
        kept_before = layout.recompute[i] == kKept;
      }
    }
  });
}

TEST(CutByAdaPipe, EqualsTryingAllForTwoStages) {
  check_cases(150, [] {
    const auto blocks = random_blocks(2, 5);
    const CutCase given = cut_case(blocks, 2, random_capacity(blocks, 2), {}, *between(2, 10));
    Seconds least = std::numeric_limits<Seconds>::infinity();
    for (const auto& cuts : all_cuts(blocks.size(), 2)) {
      for_all_levels(*given.costs, layout_of(given, cuts), [&](const StageLayout& layout) {
        if (fits(given.problem, layout)) least = std::min(least, adapipe_step(given, layout));
      });
    }
    const std::optional<StageLayout> found = cut_by_adapipe(given.problem);
    RC_ASSERT(found.has_value() == (least < std::numeric_limits<Seconds>::infinity()));
    if (!found) return;
    RC_ASSERT(fits(given.problem, *found));
    RC_ASSERT(std::abs(adapipe_step(given, *found) - least) <= 1e-6 * least);
  });
}

TEST(CutByAdaPipe, FindsALayoutWheneverThereIsOne) {
  check_cases(100, [] {
    const int num_stages = *between(1, 4);
    const auto blocks = random_blocks(static_cast<std::size_t>(num_stages), 5);
    const CutCase given = cut_case(blocks, num_stages, random_capacity(blocks, num_stages));
    Seconds least = std::numeric_limits<Seconds>::infinity();
    for (const auto& cuts : all_cuts(blocks.size(), num_stages)) {
      for_all_levels(*given.costs, layout_of(given, cuts), [&](const StageLayout& layout) {
        if (fits(given.problem, layout)) least = std::min(least, adapipe_step(given, layout));
      });
    }
    const std::optional<StageLayout> found = cut_by_adapipe(given.problem);
    RC_ASSERT(found.has_value() == (least < std::numeric_limits<Seconds>::infinity()));
    if (!found) return;
    RC_ASSERT(fits(given.problem, *found));
    RC_ASSERT(adapipe_step(given, *found) >= least * (1 - 1e-6));
  });
}

TEST(CutByAdaPipe, CutsEqualBlocksEvenly) {
  const CutCase given = cut_case(std::vector<BlockCase>(12, {.saved = 10}), 4, 1e6);
  const std::optional<StageLayout> found = cut_by_adapipe(given.problem);
  ASSERT_TRUE(found.has_value());
  EXPECT_THAT(found->stage_begin, ElementsAre(0, 3, 6, 9, 12));
  // (micro-batches + stages - 1) x (forward + backward) of a stage.
  EXPECT_NEAR(adapipe_step(given, *found), 11 * 3 * 3 * kMicrosecond, 1e-12);
}

}  // namespace
}  // namespace gimbal
