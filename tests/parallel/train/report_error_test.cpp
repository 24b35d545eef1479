// The last words of a rank that its launcher wants to end meanwhile.
#include "gimbal/train/stop/report_error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <iostream>
#include <thread>

#include "workers.h"

namespace gimbal {
namespace {

using testing_workers::run_workers;
using testing_workers::Worker;

bool ignores_sigterm() {
  struct sigaction now {};
  sigaction(SIGTERM, nullptr, &now);
  return now.sa_handler == SIG_IGN;
}

const Worker kReportUnderSigterm("report_error under SIGTERM", [] {
  dup2(STDOUT_FILENO, STDERR_FILENO);
  std::atomic<bool> has_reported = false;
  // As torch does when another rank has ended: while this one lets rank 0 speak first.
  std::thread launcher([&] {
    while (!ignores_sigterm()) {
      if (has_reported) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    kill(getpid(), SIGTERM);
    std::cout << "told to leave" << std::endl;
  });
  report_error("sample 7 is broken");
  has_reported = true;
  launcher.join();
  if (!ignores_sigterm()) std::cout << "as before" << std::endl;
});

TEST(DistReportError, IsNotCutOffByALauncherThatEndsTheOthers) {
  // Nobody serves a store at the address: the rank speaks for itself.
  const auto results =
      run_workers("report_error under SIGTERM", 2, {{"TORCHELASTIC_USE_AGENT_STORE", "True"}}, {0});
  EXPECT_EQ(results[1].exit_code, 0);
  for (const char* words :
       {"told to leave\n", "[rank 1] error: sample 7 is broken\n", "as before\n"})
    EXPECT_THAT(results[1].output, ::testing::HasSubstr(words));
}

}  // namespace
}  // namespace gimbal
