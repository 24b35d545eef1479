#include "gimbal/parallel/comm/flight_record.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace gimbal {
namespace {

using testing::HasSubstr;
using testing::MatchesRegex;
using testing::Not;

TEST(FlightRecord, ReportsTheLastCallsAndMarksTheFailedOne) {
  FlightRecord record(8);
  for (int i = 0; i < 20; ++i)
    record.end(record.begin({"broadcast", std::to_string(i), "world", 1536}));
  const auto open = record.begin({"receive from rank 1", "activations", "pp", 5});
  const auto failed = record.begin({"all_reduce_sum", "gradients", "dp", std::int64_t{3} << 30});
  record.fail(failed);
  const std::string report = record.report(4);
  EXPECT_EQ(std::ranges::count(report, '\n'), 4);
  EXPECT_THAT(report, Not(HasSubstr("'17'")));
  EXPECT_THAT(report, HasSubstr("        18  broadcast of '18' (group world)  1.50 KiB  0.0"));
  EXPECT_THAT(report,
              HasSubstr("  *     20  receive from rank 1 of 'activations' (group pp)  5 B  0.0"));
  EXPECT_THAT(report,
              HasSubstr("  >     21  all_reduce_sum of 'gradients' (group dp)  3.00 GiB  "));
  EXPECT_THAT(report, HasSubstr("failed\n"));
  record.end(open);
  EXPECT_THAT(record.report(4), Not(HasSubstr("under way")));
}

TEST(FlightRecord, KeepsNoMoreThanItsCapacity) {
  FlightRecord record(3);
  const auto first = record.begin({"broadcast", "first", "world", 1});
  for (int i = 0; i < 5; ++i) record.begin({"broadcast", "other", "world", 1});
  record.end(first);  // has left the ring: changes nothing
  const std::string report = record.report(16);
  EXPECT_EQ(std::ranges::count(report, '\n'), 3);
  EXPECT_EQ(report.find("'first'"), std::string::npos);
  EXPECT_THAT(report, HasSubstr("  *      5  broadcast"));
}

TEST(FlightRecord, TellsWhatTheRankDoes) {
  FlightRecord record;
  EXPECT_EQ(record.activity(), "has not communicated yet");
  const auto call = record.begin({"barrier", "step", "world", 4});
  EXPECT_THAT(record.activity(), MatchesRegex("is in no collective for 0\\.[0-9]+ s; the last was "
                                              "barrier of 'step' \\(group world\\)"));
  record.wait(call);
  EXPECT_THAT(record.activity(),
              MatchesRegex("waits for 0\\.[0-9]+ s in barrier of 'step' \\(group world\\)"));
  record.end(call);
  EXPECT_THAT(record.activity(), HasSubstr("is in no collective"));
}

}  // namespace
}  // namespace gimbal
