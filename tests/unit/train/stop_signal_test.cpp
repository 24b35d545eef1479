#include "gimbal/train/stop/stop_signal.h"

#include <gmock/gmock.h>
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

TEST(StopSignalDeathTest, ASecondSigintSaysFromWhereANewStartGoesOn) {
  const auto end_at_once = [](int num_notes, bool needs_resume = false) {
    install_stop_signals();
    for (int step = 0; step < num_notes; ++step) note_restart("runs/demo", 20 * step, needs_resume);
    std::raise(SIGINT);
    std::raise(SIGINT);
  };
  EXPECT_EXIT(end_at_once(3), ::testing::KilledBySignal(SIGINT),
              "again to go on after step 40 of 'runs/demo'");
  EXPECT_EXIT(end_at_once(3, true), ::testing::KilledBySignal(SIGINT),
              "again with train.resume=true to go on after step 40 of 'runs/demo'");
  EXPECT_EXIT(end_at_once(1), ::testing::KilledBySignal(SIGINT),
              "again to begin 'runs/demo' anew, which has no complete checkpoint yet");
  EXPECT_EXIT(end_at_once(0), ::testing::KilledBySignal(SIGINT),
              ::testing::Not(::testing::HasSubstr("again")));
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
