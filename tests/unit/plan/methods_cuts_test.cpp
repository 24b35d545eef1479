// The published cuts, against trying everything.
#include <gmock/gmock.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "gimbal/base/error.h"
#include "gimbal/plan/methods.h"
#include "gimbal/plan/methods/linear_partition.h"
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
using ::testing::HasSubstr;
using testing::random_blocks;

using Cuts = std::vector<std::size_t>;

constexpr Bytes kPlenty = 1e12;

// Largest sum and sum of squared sums of the parts.
std::pair<double, double> part_sums(const std::vector<double>& weights, const Cuts& cuts) {
  double largest = 0, squares = 0;
  for (std::size_t part = 0; part + 1 < cuts.size(); ++part) {
    double sum = 0;
    for (std::size_t i = cuts[part]; i < cuts[part + 1]; ++i) sum += weights[i];
    largest = std::max(largest, sum);
    squares += sum * sum;
  }
  return {largest, squares};
}

template <typename Function>
std::string user_error(Function&& function) {
  try {
    function();
  } catch (const UserError& error) {
    return error.what();
  }
  return "no error";
}

std::vector<BlockCase> vision_language_model(int num_vision, int num_text) {
  std::vector<BlockCase> blocks;
  blocks.push_back({.kind = BlockKind::kVisionEmbed});
  blocks.insert(blocks.end(), static_cast<std::size_t>(num_vision),
                {.kind = BlockKind::kVisionLayer});
  blocks.push_back({.kind = BlockKind::kProjector});
  blocks.push_back({.kind = BlockKind::kTextEmbed});
  blocks.insert(blocks.end(), static_cast<std::size_t>(num_text), {.kind = BlockKind::kTextLayer});
  blocks.push_back({.kind = BlockKind::kTextNorm});
  blocks.push_back({.kind = BlockKind::kTextHead});
  return blocks;
}

TEST(BalancedCuts, EqualTryingAll) {
  check_cases(300, [] {
    std::vector<double> weights(*between<std::size_t>(1, 9));
    for (double& weight : weights) weight = *between(0, 12);
    const int parts = *between(1, static_cast<int>(weights.size()) + 1);
    auto best = std::pair(1e300, 1e300);
    for (const Cuts& cuts : all_cuts(weights.size(), parts)) {
      best = std::min(best, part_sums(weights, cuts));
    }
    const Cuts cuts = balanced_cuts(weights, parts);
    RC_ASSERT(cuts.size() == static_cast<std::size_t>(parts) + 1);
    RC_ASSERT(std::adjacent_find(cuts.begin(), cuts.end(), std::greater_equal<>()) == cuts.end());
    RC_ASSERT(part_sums(weights, cuts) == best);
  });
}

TEST(CutByParameters, MakesTheLargestStageSmallest) {
  const CutCase given = cut_case({{.parameters = 8, .forward = 1},
                                  {.parameters = 1, .forward = 9},
                                  {.parameters = 1, .forward = 9},
                                  {.parameters = 6, .forward = 9}},
                                 2, kPlenty);
  EXPECT_THAT(cut_by_parameters(given.problem).stage_begin, ElementsAre(0, 1, 4));
}

TEST(CutByLayers, CountsLayersOfBothKindsAndKeepsTheOthersBesideThem) {
  // Blocks: embed, 3 vision layers, projector, embed, 4 text layers, norm, head.
  const CutCase given = cut_case(vision_language_model(3, 4), 3, kPlenty);
  // 3 + 2 + 2 layers; the projector stays behind the third, the text embedding before the fourth.
  EXPECT_THAT(cut_by_layers(given.problem).stage_begin, ElementsAre(0, 5, 8, 12));
  const CutCase seven = cut_case(vision_language_model(3, 4), 7, kPlenty);
  EXPECT_THAT(cut_by_layers(seven.problem).stage_begin, ElementsAre(0, 2, 3, 5, 7, 8, 9, 12));
}

TEST(CutByLayers, CountsBlocksWhereLayersAreTooFew) {
  const CutCase given = cut_case(vision_language_model(1, 1), 4, kPlenty);
  EXPECT_THAT(cut_by_layers(given.problem).stage_begin, ElementsAre(0, 2, 4, 6, 7));
}

TEST(CutByOmniBal, MeasuresTheBestOfBothRankingsAroundTheAnchor) {
  check_cases(200, [] {
    const int num_stages = *between(1, 5);
    const auto blocks = random_blocks(static_cast<std::size_t>(num_stages), 10);
    const CutCase given = cut_case(blocks, num_stages, kPlenty);
    std::vector<double> times, bytes;
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      times.push_back(given.costs->forward(i, given.problem.mean));
      bytes.push_back(given.costs->cut_bytes(i, given.problem.mean));
    }
    const auto measured = [&](int radius, int keep_best) {
      std::vector<Cuts> found;
      const OmniBalOptions options = {.radius = radius, .keep_best = keep_best};
      const StageLayout best =
          cut_by_omnibal(given.problem, options, [&](const StageLayout& layout) {
            found.push_back(layout.stage_begin);
            return 1.0 / static_cast<double>(found.size());  // later ones are faster
          });
      RC_ASSERT(best.stage_begin == found.back());
      return found;
    };
    const std::vector<Cuts> anchors = measured(0, 1);
    RC_ASSERT(anchors.size() == 1u);
    const Cuts& anchor = anchors.front();
    const double least = part_sums(times, balanced_cuts(times, num_stages)).first;
    RC_ASSERT(part_sums(times, anchor).first <= least + 1.1e-6);

    const auto radius = *between<std::size_t>(0, 3);
    const auto keep_best = *between<std::size_t>(1, 12);
    struct Scored {
      double sent, variance;
      Cuts cuts;
    };
    std::vector<Scored> scored;
    for (const Cuts& cuts : all_cuts(blocks.size(), num_stages)) {
      double sent = 0;
      bool near = true;
      for (std::size_t i = 1; i + 1 < cuts.size(); ++i) {
        sent += bytes[cuts[i] - 1];
        near = near && cuts[i] + radius >= anchor[i] && cuts[i] <= anchor[i] + radius;
      }
      if (near) scored.push_back({sent, part_sums(times, cuts).second, cuts});
    }
    // Equal scores are a matter of rounding: the candidates must be as good as the best, in order.
    const std::vector<Cuts> candidates =
        measured(static_cast<int>(radius), static_cast<int>(keep_best));
    const std::set<Cuts> unique(candidates.begin(), candidates.end());
    RC_ASSERT(unique.size() == candidates.size());
    RC_ASSERT(unique.size() <= 2 * keep_best);
    const std::size_t expected = std::min(keep_best, scored.size());
    RC_ASSERT(unique.size() >= expected);
    const auto close = [](double a, double b) { return std::abs(a - b) <= 1e-9 * (a + b); };
    const auto all_present_below = [&](auto less) {
      std::sort(scored.begin(), scored.end(), less);
      const Scored& last = scored[expected - 1];
      for (const Scored& score : scored) {
        const bool tied = close(score.variance, last.variance) && score.sent == last.sent;
        if (less(score, last) && !tied) RC_ASSERT(unique.count(score.cuts) == 1u);
      }
    };
    all_present_below([](const Scored& a, const Scored& b) { return a.variance < b.variance; });
    all_present_below([&](const Scored& a, const Scored& b) {
      return std::pair(a.sent, a.variance) < std::pair(b.sent, b.variance);
    });
    for (const Cuts& cuts : unique) {
      const bool near = std::any_of(scored.begin(), scored.end(),
                                    [&](const Scored& score) { return score.cuts == cuts; });
      RC_ASSERT(near);
    }
  });
}

TEST(CutByOmniBal, TakesTheFastestMeasuredOne) {
  const CutCase given = cut_case(std::vector<BlockCase>(8), 2, kPlenty);
  const std::map<Cuts, Seconds> seconds = {
      {{0, 3, 8}, 5.0}, {{0, 4, 8}, 4.0}, {{0, 5, 8}, std::numeric_limits<double>::infinity()}};
  const StageLayout best = cut_by_omnibal(
      given.problem, {}, [&](const StageLayout& layout) { return seconds.at(layout.stage_begin); });
  EXPECT_THAT(best.stage_begin, ElementsAre(0, 4, 8));
  EXPECT_EQ(best.recompute, std::vector<Recompute>(8, Recompute::kFull));
  const StageLayout none = cut_by_omnibal(given.problem, {}, [](const StageLayout&) {
    return std::numeric_limits<double>::infinity();
  });
  EXPECT_EQ(none.stage_begin.size(), 3u);
}

TEST(CutByOmniBal, ManyStagesTakeNoMoreThanTheirCandidates) {
  // 3^31 cuts are around the anchor.
  const CutCase given = cut_case(std::vector<BlockCase>(96), 32, kPlenty);
  std::size_t calls = 0;
  cut_by_omnibal(given.problem, {},
                 [&](const StageLayout&) { return static_cast<double>(++calls); });
  EXPECT_GE(calls, 50u);
  EXPECT_LE(calls, 100u);
}

TEST(PartitionMethods, SayWhatIsWrong) {
  const CutCase given = cut_case(std::vector<BlockCase>(3), 4, kPlenty);
  const auto measure = [](const StageLayout&) { return 1.0; };
  for (const std::string& message :
       {user_error([&] { cut_by_parameters(given.problem); }),
        user_error([&] { cut_by_layers(given.problem); }),
        user_error([&] { cut_by_omnibal(given.problem, {}, measure); }),
        user_error([&] { cut_by_adapipe(given.problem); })}) {
    EXPECT_THAT(message, HasSubstr("3 blocks and the pipeline 4 stages; use a smaller pp"));
  }
  const CutCase enough = cut_case(std::vector<BlockCase>(3), 2, kPlenty);
  EXPECT_THAT(user_error([&] { cut_by_omnibal(enough.problem, {.radius = -1}, measure); }),
              HasSubstr("radius is at least 0"));
  EXPECT_THAT(user_error([&] { cut_by_omnibal(enough.problem, {.keep_best = 0}, measure); }),
              HasSubstr("at least 1"));
}

TEST(MethodNames, AreReadBack) {
  for (const char* name : {"gimbal", "parameters", "layers", "omnibal", "adapipe"}) {
    EXPECT_STREQ(method_name(partition_method(name)), name);
  }
  for (const char* name : {"full", "none", "omnibal", "knapsack"}) {
    EXPECT_STREQ(method_name(recompute_method(name)), name);
  }
  EXPECT_THAT(
      user_error([] { partition_method("omni"); }),
      HasSubstr("unknown partition method 'omni'; known: gimbal, parameters, layers, omnibal"));
  EXPECT_THAT(user_error([] { recompute_method("half"); }),
              HasSubstr("unknown recompute method 'half'; known: full, none, omnibal, knapsack"));
}

}  // namespace
}  // namespace gimbal
