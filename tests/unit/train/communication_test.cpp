#include "gimbal/train/report/communication.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace gimbal {
namespace {

using ::testing::HasSubstr;

/// Two ranks of a pipeline: what one sends the other receives.
CommunicationReport report_of_two() {
  CommunicationReport report{30, 10, {}};
  report.ranks.push_back({{"all", "all-gather", 20, 1120, 0.5}, {"pp", "send", 40, 2 << 20, 0.25}});
  report.ranks.push_back(
      {{"all", "all-gather", 20, 1120, 1.5}, {"pp", "receive", 40, 2 << 20, 0.75}});
  return report;
}

TEST(CommunicationReport, MeansCountMissingCallsAsNone) {
  const auto means = report_of_two().means();
  ASSERT_EQ(means.size(), 3U);
  EXPECT_EQ(means[0].axis, "all");
  EXPECT_EQ(means[0].bytes, 1120);
  EXPECT_EQ(means[0].wait_seconds, 1);
  EXPECT_EQ(means[1].call, "send");
  EXPECT_EQ(means[1].calls, 20);
  EXPECT_EQ(means[1].bytes, 1 << 20);
  EXPECT_EQ(means[2].call, "receive");
  EXPECT_EQ(means[2].wait_seconds, 0.375);
}

TEST(CommunicationReport, JsonHoldsEveryRank) {
  const Json json = to_json(report_of_two());
  EXPECT_EQ(json.at("kind"), "communication");
  EXPECT_EQ(json.at("step"), 30);
  EXPECT_EQ(json.at("steps"), 10);
  EXPECT_EQ(json.at("mean").size(), 3U);
  ASSERT_EQ(json.at("ranks").size(), 2U);
  const auto totals = comm_totals_from(json.at("ranks")[1]);
  ASSERT_EQ(totals.size(), 2U);
  EXPECT_EQ(totals[1].group, "pp");
  EXPECT_EQ(totals[1].call, "receive");
  EXPECT_EQ(totals[1].calls, 40);
  EXPECT_EQ(totals[1].bytes, 2 << 20);
  EXPECT_EQ(totals[1].wait_seconds, 0.75);
}

TEST(CommunicationReport, TextIsATable) {
  const std::string text = to_text(report_of_two());
  EXPECT_THAT(text, HasSubstr("communication of 10 steps, mean of the ranks:\n"));
  EXPECT_THAT(text, HasSubstr("axis                   call                calls        MiB"));
  EXPECT_THAT(text, HasSubstr("pp                     send                   20      1.000"));
  EXPECT_THAT(text, HasSubstr("      0.100     0.125"));
}

}  // namespace
}  // namespace gimbal
