// What a run says when it starts with too many threads, and when a signal ends it.
#include <gtest/gtest.h>

#include <csignal>

#include "gimbal/train/build.h"
#include "gimbal/train/stop/stop_signal.h"

namespace gimbal {
namespace {

TEST(ThreadsWarning, NamesWhatFitsTheCores) {
  EXPECT_EQ(threads_warning(2, 2, 2),
            "2 processes x 2 threads on 2 cores wait for each other: set train.threads=1");
  EXPECT_EQ(threads_warning(2, 7, 8),
            "2 processes x 7 threads on 8 cores wait for each other: set train.threads=4");
  EXPECT_EQ(threads_warning(3, 1, 2),
            "3 processes x 1 thread on 2 cores wait for each other: start at most 2, with "
            "train.threads=1");
}

TEST(ThreadsWarning, IsEmptyWhereAllHaveACore) {
  EXPECT_EQ(threads_warning(2, 1, 2), "");
  EXPECT_EQ(threads_warning(4, 2, 8), "");
  EXPECT_EQ(threads_warning(1, 16, 2), "") << "one process may want to";
}

TEST(StopSignal, HasItsName) {
  EXPECT_EQ(signal_name(SIGTERM), "SIGTERM");
  EXPECT_EQ(signal_name(SIGINT), "SIGINT");
  EXPECT_EQ(signal_name(SIGUSR1), "SIGUSR1");
  EXPECT_EQ(signal_name(SIGKILL), "signal 9");
}

}  // namespace
}  // namespace gimbal
