#include "gimbal/schedule/schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "gimbal/base/error.h"
#include "gimbal/schedule/text.h"
#include "gimbal/schedule/validate.h"
#include "schedule/schedule_shapes.h"

namespace gimbal {
namespace {

using testing::ActionSeconds;
using testing::all_shapes;
using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::total_time;

std::vector<std::string> rank_texts(const ScheduleShape& shape) {
  std::vector<std::string> texts;
  for (const auto& actions : make_schedule(shape).ranks) {
    std::string& text = texts.emplace_back();
    for (const Action& action : actions) text += (text.empty() ? "" : " ") + to_string(action);
  }
  return texts;
}

std::string shape_error(const ScheduleShape& shape) {
  try {
    make_schedule(shape);
  } catch (const UserError& error) {
    return error.what();
  }
  return "no error";
}

TEST(MakeSchedule, GpipeRunsAllForwardsFirst) {
  EXPECT_THAT(rank_texts({PipelineKind::kGpipe, 2, 1, 3}),
              ElementsAre("0F0 0F1 0F2 0B0 0B1 0B2", "1F0 1F1 1F2 1B0 1B1 1B2"));
}

TEST(MakeSchedule, OneFOneBAlternatesAfterItsWarmUp) {
  EXPECT_THAT(rank_texts({PipelineKind::kOneFOneB, 3, 1, 4}),
              ElementsAre("0F0 0F1 0F2 0B0 0F3 0B1 0B2 0B3", "1F0 1F1 1B0 1F2 1B1 1F3 1B2 1B3",
                          "2F0 2B0 2F1 2B1 2F2 2B2 2F3 2B3"));
}

TEST(MakeSchedule, OneFOneBHasFewerMicroBatchesThanRanks) {
  EXPECT_THAT(
      rank_texts({PipelineKind::kOneFOneB, 4, 1, 2}),
      ElementsAre("0F0 0F1 0B0 0B1", "1F0 1F1 1B0 1B1", "2F0 2F1 2B0 2B1", "3F0 3B0 3F1 3B1"));
}

TEST(MakeSchedule, InterleavedPassesAllStagesOfARankRoundByRound) {
  EXPECT_THAT(rank_texts({PipelineKind::kInterleaved, 2, 2, 4}),
              ElementsAre("0F0 0F1 2F0 2F1 0F2 2B0 0F3 2B1 2F2 0B0 2F3 0B1 2B2 2B3 0B2 0B3",
                          "1F0 1F1 3F0 3B0 3F1 3B1 1F2 1B0 1F3 1B1 3F2 3B2 3F3 3B3 1B2 1B3"));
}

TEST(MakeSchedule, ZeroBubblePutsOffWeightGradientsByTheRank) {
  EXPECT_THAT(
      rank_texts({PipelineKind::kZeroBubble, 3, 1, 3}),
      ElementsAre("0F0 0F1 0F2 0I0 0W0 0I1 0W1 0I2 0W2", "1F0 1F1 1I0 1F2 1I1 1W0 1I2 1W1 1W2",
                  "2F0 2I0 2F1 2I1 2F2 2I2 2W0 2W1 2W2"));
}

TEST(MakeSchedule, OneStageRunsEachMicroBatchAtOnceButForGpipe) {
  for (PipelineKind kind :
       {PipelineKind::kOneFOneB, PipelineKind::kInterleaved, PipelineKind::kZeroBubble}) {
    EXPECT_THAT(rank_texts({kind, 1, 1, 3}), ElementsAre("0F0 0B0 0F1 0B1 0F2 0B2"))
        << pipeline_name(kind);
  }
  EXPECT_THAT(rank_texts({PipelineKind::kGpipe, 1, 1, 2}), ElementsAre("0F0 0F1 0B0 0B1"));
}

TEST(MakeSchedule, EachShapeIsSound) {
  int shapes = 0;
  for (const ScheduleShape& shape : all_shapes(9, 24)) {
    const Schedule schedule = make_schedule(shape);
    EXPECT_THAT(check_schedule(schedule).problems, ElementsAre()) << format_schedule(schedule);
    EXPECT_EQ(schedule.name, pipeline_name(shape.kind));
    EXPECT_EQ(schedule.num_stages, shape.ranks * shape.stages_per_rank);
    ++shapes;
  }
  EXPECT_GT(shapes, 1000);
}

// Huang et al. 2019 and Narayanan et al. 2021 (section 2.2): with equal stages the pipeline waits
// p - 1 times a forward and a backward.
TEST(MakeSchedule, BubbleOfGpipeAndOneFOneBIsTheClosedForm) {
  for (const ActionSeconds& seconds :
       {ActionSeconds{1, 1, 1}, ActionSeconds{2, 1, 2}, ActionSeconds{3, 5, 0}}) {
    const long whole = seconds.forward + seconds.input + seconds.weight;
    for (int p = 1; p <= 6; ++p) {
      for (int m = 1; m <= 12; ++m) {
        EXPECT_EQ(total_time(make_schedule({PipelineKind::kGpipe, p, 1, m}), seconds),
                  (m + p - 1) * whole);
        EXPECT_EQ(total_time(make_schedule({PipelineKind::kOneFOneB, p, 1, m}), seconds),
                  (m + p - 1) * whole);
      }
    }
  }
}

// Narayanan et al. 2021, section 2.2: v stages per rank shorten the bubble v times.
TEST(MakeSchedule, BubbleOfInterleavedIsDividedByTheStagesPerRank) {
  for (int p = 2; p <= 6; ++p) {
    for (int v = 1; v <= 3; ++v) {
      for (int rounds = 1; rounds <= 4; ++rounds) {
        const int m = rounds * p;
        const Schedule schedule = make_schedule({PipelineKind::kInterleaved, p, v, m});
        EXPECT_EQ(total_time(schedule, {1, 1, 1}), 3L * (v * m + p - 1)) << p << v << m;
      }
    }
  }
}

// Qi et al. 2023, section 2: bubble (p - 1) (F + B - W), where B are the input gradients, and at
// most as many micro-batches held as with 1F1B.
TEST(MakeSchedule, ZeroBubbleHasTheBubbleAndTheMemoryOfThePaper) {
  for (const ActionSeconds& seconds : {ActionSeconds{1, 1, 1}, ActionSeconds{2, 3, 2},
                                       ActionSeconds{4, 5, 3}, ActionSeconds{3, 3, 1}}) {
    const long whole = seconds.forward + seconds.input + seconds.weight;
    for (int p = 2; p <= 8; ++p) {
      for (int m = p; m <= 3 * p; ++m) {
        const Schedule schedule = make_schedule({PipelineKind::kZeroBubble, p, 1, m});
        EXPECT_EQ(total_time(schedule, seconds),
                  m * whole + (p - 1) * (seconds.forward + seconds.input - seconds.weight))
            << format_schedule(schedule);
        const Schedule plain = make_schedule({PipelineKind::kOneFOneB, p, 1, m});
        const std::vector<int> held = check_schedule(schedule).in_flight;
        const std::vector<int> plain_held = check_schedule(plain).in_flight;
        EXPECT_THAT(held, Each(p));
        EXPECT_EQ(*std::max_element(plain_held.begin(), plain_held.end()), p);
      }
    }
  }
}

TEST(MakeSchedule, NamesAreReadBack) {
  for (PipelineKind kind : {PipelineKind::kGpipe, PipelineKind::kOneFOneB,
                            PipelineKind::kInterleaved, PipelineKind::kZeroBubble}) {
    EXPECT_EQ(pipeline_kind(pipeline_name(kind)), kind);
  }
  try {
    pipeline_kind("zero-bubble");
    FAIL() << "no error";
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(),
                AllOf(HasSubstr("'zero-bubble'"), HasSubstr("gpipe, 1f1b, interleaved, zb-h1")));
  }
}

TEST(MakeSchedule, WrongShapesAreRefused) {
  EXPECT_THAT(shape_error({PipelineKind::kGpipe, 0, 1, 1}),
              AllOf(HasSubstr("schedule gpipe"), HasSubstr("found 0 ranks")));
  EXPECT_THAT(shape_error({PipelineKind::kOneFOneB, 2, 1, -3}),
              HasSubstr("found -3 micro-batches"));
  EXPECT_THAT(shape_error({PipelineKind::kInterleaved, 2, 0, 3}), HasSubstr("0 stages per rank"));
  EXPECT_THAT(shape_error({PipelineKind::kZeroBubble, 4, 2, 4}),
              AllOf(HasSubstr("found 2"), HasSubstr("only interleaved has more")));
  EXPECT_THAT(shape_error({PipelineKind::kGpipe, 1 << 20, 1, 1 << 20}),
              HasSubstr("more than 4194304"));
  EXPECT_EQ(make_schedule({PipelineKind::kGpipe, 1 << 11, 1, 1}).ranks.size(), 2048U);
}

TEST(MakeSchedule, InterleavedNamesTheNumbersThatWork) {
  // Two rounds of 4.5: 8 and 10 split evenly.
  EXPECT_THAT(shape_error({PipelineKind::kInterleaved, 4, 2, 9}),
              AllOf(HasSubstr("4 ranks"), HasSubstr("9 micro-batches in 2 equal rounds"),
                    HasSubstr("take 8 or 10")));
  EXPECT_EQ(make_schedule({PipelineKind::kInterleaved, 4, 2, 7}).num_micro_batches, 7);
  EXPECT_EQ(make_schedule({PipelineKind::kInterleaved, 4, 2, 8}).num_micro_batches, 8);
  EXPECT_EQ(make_schedule({PipelineKind::kInterleaved, 4, 2, 10}).num_micro_batches, 10);
}

}  // namespace
}  // namespace gimbal
