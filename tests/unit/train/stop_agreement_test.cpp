#include "gimbal/train/stop/stop_agreement.h"

#include <gtest/gtest.h>

namespace gimbal {
namespace {

TEST(StopAgreement, WithoutASignalNothingStops) {
  const auto comm = make_single_comm();
  StopAgreement agreement(*comm);
  for (int round = 0; round < 100; ++round) EXPECT_FALSE(agreement.stops());
}

TEST(RoundsUntilQuestion, FollowTheTimeOfARound) {
  EXPECT_EQ(rounds_until_question(0, 0), 1);  // the first round
  EXPECT_EQ(rounds_until_question(1, 5), 1);  // a round is longer than a second
  EXPECT_EQ(rounds_until_question(100, 1.25), 80);
  EXPECT_EQ(rounds_until_question(100, 4), 25);
}

TEST(RoundsUntilQuestion, GrowSlowlyAndStayBounded) {
  EXPECT_EQ(rounds_until_question(1, 0), 2);
  EXPECT_EQ(rounds_until_question(8, 0.001), 16);
  EXPECT_EQ(rounds_until_question(1024, 0), 1024);
}

}  // namespace
}  // namespace gimbal
