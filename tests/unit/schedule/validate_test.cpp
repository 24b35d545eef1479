#include "gimbal/schedule/validate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "balance/check_cases.h"
#include "gimbal/base/error.h"
#include "gimbal/schedule/in_flight.h"
#include "gimbal/schedule/text.h"
#include "schedule/schedule_shapes.h"

namespace gimbal {
namespace {

using testing::between;
using testing::check_cases;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

ScheduleCheck check_text(const std::string& text) {
  return check_schedule(parse_schedule(text, "text"));
}
std::vector<std::string> problems_of(const std::string& text) {
  const ScheduleCheck check = check_text(text);
  EXPECT_EQ(check.in_flight.empty(), !check.problems.empty());
  return check.problems;
}
const std::string kTwo = "x ranks=2 stages=2 micro_batches=1\n";
const std::string kOne = "x ranks=1 stages=1 micro_batches=2\n";

TEST(CheckSchedule, FindsTheFullestMomentsOfStagesThatShareARank) {
  EXPECT_THAT(fullest_moments(make_schedule({PipelineKind::kOneFOneB, 4, 1, 8}), 1),
              ElementsAre(ElementsAre(3)));
  const Schedule wound = make_schedule({PipelineKind::kInterleaved, 2, 2, 4});
  const auto moments = fullest_moments(wound, 0);
  const std::vector<int> in_flight = check_schedule(wound).in_flight;
  for (std::size_t stage = 0; stage < 2; ++stage) {
    int most = 0;
    for (const std::vector<int>& moment : moments) most = std::max(most, moment[stage]);
    EXPECT_EQ(most, in_flight[2 * stage]);
  }
  // The stages are not at their fullest together.
  for (const std::vector<int>& moment : moments)
    EXPECT_LT(moment[0] + moment[1], in_flight[0] + in_flight[2]);
}

TEST(CheckSchedule, CountsWhatIsInFlight) {
  const auto in_flight = [](const ScheduleShape& shape) {
    return check_schedule(make_schedule(shape)).in_flight;
  };
  EXPECT_THAT(in_flight({PipelineKind::kGpipe, 3, 1, 5}), Each(5));
  EXPECT_THAT(in_flight({PipelineKind::kOneFOneB, 4, 1, 8}), ElementsAre(4, 3, 2, 1));
  EXPECT_THAT(in_flight({PipelineKind::kOneFOneB, 4, 1, 2}), ElementsAre(2, 2, 2, 1));
  EXPECT_THAT(in_flight({PipelineKind::kZeroBubble, 4, 1, 8}), ElementsAre(4, 4, 4, 4));
  // Rank 0 runs 0F0 0F1 2F0 2F1 0F2 2B0 0F3 before its first 0B.
  EXPECT_THAT(in_flight({PipelineKind::kInterleaved, 2, 2, 4}), ElementsAre(4, 3, 2, 1));
  EXPECT_THAT(in_flight({PipelineKind::kOneFOneB, 1, 1, 8}), ElementsAre(1));
  // Activations are needed until the weight gradients are there.
  EXPECT_THAT(check_text(kOne + "0F0 0I0 0F1 0I1 0W1 0W0").in_flight, ElementsAre(2));
}

TEST(CheckSchedule, FindsWhatIsMissingOrTwice) {
  EXPECT_THAT(problems_of(kOne + "0F0 0B0 0F1"), ElementsAre("0B1 is missing (or 0I1 and 0W1)"));
  EXPECT_THAT(problems_of(kOne + "0F0 0B0 0B1"),
              ElementsAre("0B1 has no 0F1 before it", "0F1 is missing"));
  EXPECT_THAT(problems_of(kOne + "0F0 0B0 0F1 0B1 0F0"), ElementsAre("0F0 is there twice"));
  EXPECT_THAT(problems_of(kOne + "0F0 0B0 0F1 0I1"), ElementsAre("0W1 is missing"));
  EXPECT_THAT(problems_of(kOne + "0F0 0B0 0F1 0W1"), ElementsAre("0W1 has no 0I1 before it"));
  EXPECT_THAT(problems_of(kOne + "0F0 0B0 0F1 0I1 0B1"), ElementsAre("0B1 and 0I1 are both there"));
  EXPECT_THAT(problems_of(kOne + "0F0 0I0 0W0 0B0 0F1 0B1"),
              ElementsAre("0B0 and 0I0 are both there"));
}

TEST(CheckSchedule, FindsWrongOrderAndPlace) {
  EXPECT_THAT(problems_of(kOne + "0B0 0F0 0F1 0B1"), ElementsAre("0B0 has no 0F0 before it"));
  EXPECT_THAT(problems_of(kOne + "0F0 0W0 0I0 0F1 0B1"), ElementsAre("0W0 has no 0I0 before it"));
  EXPECT_THAT(problems_of(kTwo + "0F0 1B0\n1F0 0B0"),
              ElementsAre("1B0 is on rank 0; stage 1 is on rank 1",
                          "0B0 is on rank 1; stage 0 is on rank 0",
                          "0B0 is missing (or 0I0 and 0W0)", "1B0 is missing (or 1I0 and 1W0)"));
  EXPECT_THAT(problems_of(kOne + "0F0 0B0 0F1 0B1 1F0 0F2"),
              ElementsAre("1F0 on rank 0: there are stages 0 to 0 and micro-batches 0 to 1",
                          "0F2 on rank 0: there are stages 0 to 0 and micro-batches 0 to 1"));
}

TEST(CheckSchedule, FindsDeadlocks) {
  // Rank 0 wants the gradient of micro-batch 1 first, rank 1 gives that of 0 first and needs 0F1.
  EXPECT_THAT(problems_of("x ranks=2 stages=2 micro_batches=2\n0F0 0B0 0F1 0B1\n1F0 1F1 1B0 1B1"),
              ElementsAre("rank 0 waits for ever at 0B0, which needs 1B0",
                          "rank 1 waits for ever at 1F1, which needs 0F1"));
  // Both stages on one rank, in the wrong order.
  EXPECT_THAT(problems_of("x ranks=1 stages=2 micro_batches=1\n1F0 0F0 1B0 0B0"),
              ElementsAre("rank 0 waits for ever at 1F0, which needs 0F0"));
  // A split backward hands its input gradients on, whatever the weight gradients do.
  EXPECT_THAT(problems_of(kTwo + "0F0 0B0\n1F0 1I0 1W0"), IsEmpty());
  EXPECT_THAT(
      problems_of("x ranks=2 stages=2 micro_batches=2\n0F0 0B0 0F1 0B1\n1F0 1F1 1I0 1W0 1B1"),
      ElementsAre("rank 0 waits for ever at 0B0, which needs 1I0",
                  "rank 1 waits for ever at 1F1, which needs 0F1"));
}

TEST(CheckSchedule, FindsWrongSizes) {
  const Schedule sound = make_schedule({PipelineKind::kGpipe, 2, 1, 2});
  Schedule schedule = sound;
  schedule.num_micro_batches = 0;
  EXPECT_THAT(
      check_schedule(schedule).problems,
      ElementsAre("found 2 ranks, 2 stages and 0 micro-batches; at least 1 of each is needed"));
  schedule = sound;
  schedule.num_stages = 3;
  EXPECT_THAT(check_schedule(schedule).problems,
              ElementsAre("3 stages are no multiple of 2 ranks"));
  schedule = sound;
  schedule.ranks.pop_back();
  EXPECT_THAT(check_schedule(schedule).problems,
              ElementsAre("found actions of 1 ranks, expected 2"));
  schedule = sound;
  schedule.num_micro_batches = 1 << 30;
  EXPECT_THAT(check_schedule(schedule).problems,
              ElementsAre("2 stages x 1073741824 micro-batches are more than 4194304"));
}

// Swaps of two actions of a rank: check_schedule says "sound" exactly when trying in turn comes to
// an end and each backward has its forward before it.
TEST(CheckSchedule, AgreesWithTryingOnShuffledSchedules) {
  int sound = 0;
  int stuck = 0;
  check_cases(3000, [&] {
    const std::vector<ScheduleShape> shapes = testing::all_shapes(4, 5);
    Schedule schedule = make_schedule(shapes[*between<std::size_t>(0, shapes.size())]);
    for (int left = *between(1, 4); left > 0; --left) {
      auto& actions = schedule.ranks[*between<std::size_t>(0, schedule.ranks.size())];
      const std::size_t i = *between<std::size_t>(0, actions.size() - 1);
      std::swap(actions[i], actions[i + 1]);
    }
    bool ends = true;
    for (const auto& actions : schedule.ranks) {
      for (std::size_t i = 0; i < actions.size(); ++i) {
        for (std::size_t j = 0; j < i; ++j) {
          const bool same = actions[i].stage == actions[j].stage &&
                            actions[i].micro_batch == actions[j].micro_batch;
          // Of one micro-batch: F, then B; or F, I, W: the order of ActionKind.
          if (same && actions[j].kind > actions[i].kind) ends = false;
        }
      }
    }
    if (ends) {
      try {
        testing::total_time(schedule, {});
      } catch (const InternalError&) {
        ends = false;
        ++stuck;
      }
    }
    sound += ends ? 1 : 0;
    const ScheduleCheck check = check_schedule(schedule);
    RC_ASSERT(check.problems.empty() == ends);
  });
  EXPECT_GT(sound, 100);
  EXPECT_GT(stuck, 100);
}

}  // namespace
}  // namespace gimbal
