#include "gimbal/schedule/text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "balance/check_cases.h"
#include "gimbal/base/error.h"
#include "schedule/schedule_shapes.h"

namespace gimbal {
namespace {

using ::testing::AllOf;
using testing::between;
using testing::check_cases;
using ::testing::HasSubstr;

std::string parse_error(const std::string& text) {
  try {
    parse_schedule(text, "s.txt");
  } catch (const UserError& error) {
    return error.what();
  }
  return "no error";
}

TEST(ScheduleText, IsOneLinePerRank) {
  EXPECT_EQ(format_schedule(make_schedule({PipelineKind::kZeroBubble, 2, 1, 2})),
            "zb-h1 ranks=2 stages=2 micro_batches=2\n"
            "0F0 0F1 0I0 0W0 0I1 0W1\n"
            "1F0 1I0 1F1 1I1 1W0 1W1\n");
}

TEST(ScheduleText, IsReadBackForAllShapes) {
  for (const ScheduleShape& shape : testing::all_shapes(5, 9)) {
    const Schedule schedule = make_schedule(shape);
    EXPECT_EQ(parse_schedule(format_schedule(schedule), "text"), schedule);
  }
}

// Sound or not: text keeps whatever the lists hold.
TEST(ScheduleText, IsReadBackForAnyLists) {
  check_cases(500, [] {
    Schedule schedule;
    schedule.name = *rc::gen::elementOf(std::vector<std::string>{"mine", "a-b.c", "0F0", "-"});
    schedule.num_ranks = *between(1, 5);
    schedule.num_stages = schedule.num_ranks * *between(1, 4);
    schedule.num_micro_batches = *between(1, 2000);
    for (int rank = 0; rank < schedule.num_ranks; ++rank) {
      auto& actions = schedule.ranks.emplace_back();
      for (int left = *between(0, 7); left > 0; --left) {
        actions.push_back(
            {*between(0, 100000), static_cast<ActionKind>(*between(0, 4)), *between(0, 100000)});
      }
    }
    RC_ASSERT(parse_schedule(format_schedule(schedule), "text") == schedule);
  });
}

TEST(ScheduleText, MayHaveCommentsSpacesAndNoLastNewline) {
  const Schedule expected = make_schedule({PipelineKind::kOneFOneB, 2, 1, 1});
  EXPECT_EQ(parse_schedule("# by hand\r\n\n  1f1b  ranks=2 stages=2\tmicro_batches=1 # header\r\n"
                           "0F0 0B0\r\n   \n#1F0\n1F0   1B0 # last",
                           "text"),
            expected);
}

TEST(ScheduleText, ErrorsNameLineAndWord) {
  const std::string header = "x ranks=2 stages=2 micro_batches=1\n";
  EXPECT_THAT(parse_error(""), AllOf(HasSubstr("s.txt: is empty"), HasSubstr("NAME ranks=R")));
  EXPECT_THAT(parse_error("# only this\n"), HasSubstr("is empty"));
  EXPECT_THAT(parse_error("0F0 0B0\n"),
              AllOf(HasSubstr("s.txt:1: found 2 words"), HasSubstr("NAME ranks=R")));
  EXPECT_THAT(parse_error("\nx stages=2 ranks=2 micro_batches=1\n"),
              AllOf(HasSubstr("s.txt:2: found 'stages=2'"), HasSubstr("ranks=NUMBER")));
  EXPECT_THAT(parse_error("x ranks=0 stages=2 micro_batches=1"), HasSubstr("found 'ranks=0'"));
  EXPECT_THAT(parse_error("x ranks=1 stages=2x micro_batches=1"), HasSubstr("found 'stages=2x'"));
  EXPECT_THAT(parse_error("x ranks=1 stages=99999999999 micro_batches=1"), HasSubstr("at least 1"));
  EXPECT_THAT(parse_error("x ranks=2 stages=3 micro_batches=1"), HasSubstr("multiple of ranks"));
  EXPECT_THAT(parse_error("x ranks=1 stages=9999 micro_batches=9999"),
              HasSubstr("more than 4194304"));
  EXPECT_THAT(parse_error(header + "0F0 0B0\n"),
              AllOf(HasSubstr("found 1 lines of actions"), HasSubstr("each of 2 ranks")));
  for (const char* word :
       {"0F", "F0", "0X0", "0F0,", "-1F0", "0f0", "0F-1", "0F0F", "0F99999999999", "0"}) {
    EXPECT_THAT(parse_error(header + "0F0 0B0\n1F0 " + word + "\n"),
                AllOf(HasSubstr("s.txt:3: found '" + std::string(word) + "'"), HasSubstr("2F0")));
  }
}

}  // namespace
}  // namespace gimbal
