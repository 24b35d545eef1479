#include "gimbal/train/stop_signal.h"

#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>

namespace gimbal {
namespace {

// In processes of their own: the handlers stay.

TEST(StopSignalDeathTest, IsNoticed) {
  EXPECT_EXIT(
      {
        install_stop_signals();
        std::raise(SIGUSR1);
        std::_Exit(stop_signal());
      },
      ::testing::ExitedWithCode(SIGUSR1), "");
}

TEST(StopSignalDeathTest, WhatABackgroundJobIgnoresStaysIgnored) {
  EXPECT_EXIT(
      {
        std::signal(SIGINT, SIG_IGN);
        install_stop_signals();
        std::raise(SIGINT);
        std::raise(SIGINT);
        std::_Exit(stop_signal());
      },
      ::testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace gimbal
