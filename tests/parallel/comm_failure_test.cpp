// Whatever happens to one rank, the others end soon, and say whose fault it was.
#include <ATen/ops/empty.h>
#include <ATen/ops/ones.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <thread>

#include "agent_store.h"
#include "gimbal/base/error.h"
#include "gimbal/parallel/comm.h"
#include "workers.h"

namespace gimbal {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing_workers::AgentStore;
using testing_workers::run_workers;
using testing_workers::Variables;
using testing_workers::Worker;
using testing_workers::WorkerResult;
using Clock = std::chrono::steady_clock;

constexpr double kTimeout = 3;

std::unique_ptr<CommWorld> make_world(double timeout_s = kTimeout) {
  return make_comm_world(read_launch_info(), at::kCPU,
                         std::chrono::milliseconds(static_cast<std::int64_t>(timeout_s * 1000)));
}

Clock::time_point last_progress;

/// Prints how long this process has lived on without getting anywhere, as late as it can.
void print_delay_at_exit() {
  last_progress = Clock::now();
  std::atexit([] {
    std::cout << "\nleft after "
              << std::chrono::duration<double>(Clock::now() - last_progress).count() << " s"
              << std::endl;
  });
}

double delay_of(const WorkerResult& result) {
  const std::size_t begin = result.output.rfind("left after ");
  return begin == std::string::npos ? 1e9 : std::stod(result.output.substr(begin + 11));
}

/// Groups as a mesh of two stages and two data ranks has them.
struct Groups {
  explicit Groups(CommWorld& world) {
    const int rank = world.world().rank();
    world.set_coordinates(concat("pp ", rank / 2, ", dp_shard ", rank % 2));
    data = world.make_group("data", rank < 2 ? std::vector{0, 1} : std::vector{2, 3});
    stages = world.make_group("stages", rank % 2 == 0 ? std::vector{0, 2} : std::vector{1, 3});
  }
  /// Something of everything, with calls that stay under way.
  void run_step(CommWorld& world) {
    at::Tensor sum = at::ones({2000});
    const auto late = data->all_reduce_sum(sum, "late gradients");
    at::Tensor activations = at::ones({5000});
    const auto message = stages->rank() == 0 ? stages->send(activations, 1, "activations")
                                             : stages->receive(activations, 0, "activations");
    data->reduce_scatter_sum(at::empty({100}), at::ones({200}), "gradients of text.3")->wait();
    message->wait();
    late->wait();
    world.world().all_reduce_sum(at::ones({1}), "norm")->wait();
  }
  std::unique_ptr<Comm> data, stages;
};

const Worker kSignal("signal", [] {
  const std::string victim = std::getenv("VICTIM");
  const bool is_victim = victim == std::getenv("RANK");
  const int signal_number = std::atoi(std::getenv("SIGNAL"));
  if (is_victim && signal_number == SIGSTOP) {
    // A stopped process has to be ended by somebody: by a child without its connections.
    const std::string command = "sleep 11; kill -9 " + std::to_string(getpid());
    if (fork() == 0) execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
  }
  const auto world = make_world();
  Groups groups(*world);
  print_delay_at_exit();
  for (int step = 0;; ++step) {
    if (step == 50 && is_victim) kill(getpid(), signal_number);
    groups.run_step(*world);
    last_progress = Clock::now();
  }
});

/// The others have ended within the timeout and five seconds, and name the victim. On a machine
/// that stalls for seconds a store that lives may not answer some of them in time; these blame it.
void expect_others_to_end(const std::vector<WorkerResult>& results, int victim,
                          const std::string& blame) {
  const bool store_is_hit = blame.find("which serves it") != std::string::npos;
  int num_sure = 0;
  for (std::size_t rank = 0; rank < results.size(); ++rank) {
    if (static_cast<int>(rank) == victim) continue;
    const WorkerResult& result = results[rank];
    EXPECT_EQ(result.exit_code, 1) << result.output;
    EXPECT_LE(delay_of(result), kTimeout + 5) << result.output;
    EXPECT_THAT(result.output, HasSubstr(concat("failed on rank ", rank, " of 4 (pp ", rank / 2,
                                                ", dp_shard ", rank % 2, "; host ")));
    EXPECT_THAT(result.output, HasSubstr("(timeout 3 s)"));
    EXPECT_THAT(result.output, HasSubstr("Last collectives of this rank"));
    EXPECT_THAT(result.output, HasSubstr("\n  > "));
    if (!store_is_hit && result.output.find(" does not answer: ") != std::string::npos) continue;
    ++num_sure;
    EXPECT_THAT(result.output, HasSubstr(blame));
    EXPECT_THAT(result.output, HasSubstr("stopped or is stuck (killed"));
    EXPECT_THAT(result.output, Not(HasSubstr("noticed first"))) << "a consequence of that";
  }
  EXPECT_GE(num_sure, 1);
}

class DistCommSignal : public ::testing::TestWithParam<std::tuple<int, int, std::string>> {};

TEST_P(DistCommSignal, EndsTheOthersWithAMessage) {
  const auto [signal_number, victim, transport] = GetParam();
  const auto results = run_workers("signal", 4,
                                   {{"VICTIM", std::to_string(victim)},
                                    {"SIGNAL", std::to_string(signal_number)},
                                    {"GIMBAL_TRANSPORT", transport}});
  expect_others_to_end(results, victim,
                       victim == 0 ? "rank 0, which serves it, has stopped or is stuck"
                                   : concat("Rank ", victim, " (pp ", victim / 2, ", dp_shard ",
                                            victim % 2, "; host "));
}

// Rank 0, which serves the store, and one of the others.
INSTANTIATE_TEST_SUITE_P(Killed, DistCommSignal,
                         ::testing::Combine(::testing::Values(SIGKILL), ::testing::Values(0, 3),
                                            ::testing::Values("auto", "tcp")));
INSTANTIATE_TEST_SUITE_P(Halted, DistCommSignal,
                         ::testing::Combine(::testing::Values(SIGSTOP), ::testing::Values(0, 2),
                                            ::testing::Values("auto", "tcp")));

/// With torchrun the store is not on rank 0: its death is seen like any other.
TEST(DistCommFailure, StoreOfAnAgentOutlivesRankZero) {
  const AgentStore agent;
  const auto results = run_workers("signal", 4,
                                   agent.leading_here({{"VICTIM", "0"},
                                                       {"SIGNAL", std::to_string(SIGKILL)},
                                                       {"TORCHELASTIC_RESTART_COUNT", "2"}}));
  expect_others_to_end(results, 0, "Rank 0 (pp 0, dp_shard 0; host ");
}

const Worker kStuck("stuck", [] {
  const auto world = make_world(2);
  if (world->world().rank() == 1) {
    std::this_thread::sleep_for(std::chrono::milliseconds(4500));
    _exit(0);
  }
  world->world().barrier("after step 3");
});

TEST(DistCommFailure, StuckRankEndsTheOthersAtTheTimeout) {
  const auto results = run_workers("stuck", 2);
  EXPECT_EQ(results[0].exit_code, 1);
  EXPECT_THAT(results[0].output, HasSubstr("barrier of 'after step 3' failed on rank 0 of 2"));
  EXPECT_THAT(results[0].output, HasSubstr("(timeout 2 s)"));
  EXPECT_THAT(results[0].output, HasSubstr(" lives; it is in no collective for "));
}

const Worker kThrow("throw", [] {
  const bool is_victim = std::string(std::getenv("VICTIM")) == std::getenv("RANK");
  const bool reports = std::string(std::getenv("REPORTS")) == "1";
  const auto world = make_world(60);
  Groups groups(*world);
  print_delay_at_exit();
  for (int step = 0;; ++step) {
    if (step == 20 && is_victim) {
      // What the next step would do, and a message that nobody sends: nobody may wait for them.
      at::Tensor sum = at::ones({2000});
      at::Tensor message = at::ones({5000});
      const auto left_behind = groups.data->all_reduce_sum(sum, "left behind");
      const auto unread = groups.stages->receive(message, 1 - groups.stages->rank(), "unread");
      const std::runtime_error error("sample 17 is broken\nsecond line");
      if (reports) world->report_failure(error);
      throw error;
    }
    groups.run_step(*world);
    last_progress = Clock::now();
  }
});

class DistCommThrow : public ::testing::TestWithParam<std::tuple<std::string, int>> {};

TEST_P(DistCommThrow, EndsTheOthersWithItsMessage) {
  const auto [reports, victim] = GetParam();
  const auto results =
      run_workers("throw", 4, {{"VICTIM", std::to_string(victim)}, {"REPORTS", reports}});
  const std::string reason =
      reports == "1" ? "sample 17 is broken" : "it ends with an error; see what it has printed";
  for (int rank = 0; rank < 4; ++rank) {
    const WorkerResult& result = results[static_cast<std::size_t>(rank)];
    EXPECT_LE(delay_of(result), 6) << result.output;  // far below the timeout
    if (rank == victim) {
      EXPECT_EQ(result.exit_code, 3) << result.output;
      continue;
    }
    EXPECT_EQ(result.exit_code, 1) << result.output;
    EXPECT_THAT(result.output, HasSubstr(concat("Rank ", victim, " (pp ", victim / 2, ", dp_shard ",
                                                victim % 2, "; host ")));
    EXPECT_THAT(result.output, HasSubstr("failed first: " + reason));
    EXPECT_THAT(result.output, Not(HasSubstr("second line")));
  }
}

INSTANTIATE_TEST_SUITE_P(Reported, DistCommThrow,
                         ::testing::Combine(::testing::Values("1"), ::testing::Values(0, 2)));
INSTANTIATE_TEST_SUITE_P(Unwinding, DistCommThrow,
                         ::testing::Combine(::testing::Values("0"), ::testing::Values(2)));

// With TCP Gloo's own thread meets a message that is longer than its receiver expects, and ends the
// process.
const Worker kMismatch("message too long", [] {
  dup2(STDOUT_FILENO, STDERR_FILENO);
  const auto world = make_world(30);
  Comm& comm = world->world();
  world->set_coordinates(concat("pp ", comm.rank()));
  print_delay_at_exit();
  at::Tensor tensor = at::ones({comm.rank() == 0 ? 1000 : 10});
  const auto work = comm.rank() == 0 ? comm.send(tensor, 1, "activations of 3")
                                     : comm.receive(tensor, 0, "activations of 3");
  work->wait();
  comm.barrier("after the message");
});

TEST(DistCommFailure, AnEndInAThreadOfGlooIsReported) {
  const auto results = run_workers("message too long", 2, {{"GIMBAL_TRANSPORT", "tcp"}});
  EXPECT_EQ(results[1].exit_code, 128 + SIGABRT) << results[1].output;
  EXPECT_THAT(results[1].output,
              HasSubstr("an error that nobody has caught ends rank 1 of 2 (pp 1; host "));
  EXPECT_THAT(results[1].output, HasSubstr("receive from rank 0 of 'activations of 3'"));
  EXPECT_EQ(results[0].exit_code, 1) << results[0].output;
  EXPECT_THAT(results[0].output, HasSubstr("Rank 1 (pp 1; host "));
  EXPECT_THAT(results[0].output, HasSubstr("failed first: an error that nobody has caught"));
  EXPECT_LE(delay_of(results[0]), 10) << results[0].output;  // far below the timeout
}

TEST(DistCommFailure, AMessageOfAnotherLengthIsAnErrorOfItsReceiver) {
  const auto results = run_workers("message too long", 2, {{"GIMBAL_TRANSPORT", "auto"}});
  EXPECT_EQ(results[1].exit_code, 1) << results[1].output;
  EXPECT_THAT(results[1].output,
              HasSubstr("receive from rank 0 of 'activations of 3' failed on rank 1 of 2 (pp 1; "));
  EXPECT_THAT(results[1].output, HasSubstr("4000 bytes, 40 are expected"));
  EXPECT_EQ(results[0].exit_code, 1) << results[0].output;
  EXPECT_LE(delay_of(results[0]), 10) << results[0].output;  // far below the timeout
}

const Worker kEnd("end at different times", [] {
  const auto world = make_world(60);
  const int rank = world->world().rank();
  world->world().barrier("end");
  print_delay_at_exit();
  std::this_thread::sleep_for(std::chrono::milliseconds(300 * rank));
});

TEST(DistCommFailure, OrderlyEndIsNoError) {
  for (const WorkerResult& result : run_workers("end at different times", 3)) {
    EXPECT_EQ(result.exit_code, 0) << result.output;
    EXPECT_LE(delay_of(result), 5);
  }
}

}  // namespace
}  // namespace gimbal
