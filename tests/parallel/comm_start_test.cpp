#include <ATen/ops/full.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include "agent_store.h"
#include "gimbal/base/error.h"
#include "gimbal/parallel/comm.h"
#include "gimbal/parallel/comm/comm_c10d.h"
#include "gimbal/parallel/first_report.h"
#include "workers.h"

namespace gimbal {
namespace {

using testing::HasSubstr;
using testing_workers::AgentStore;
using testing_workers::run_workers;
using testing_workers::Worker;
using testing_workers::WorkerResult;

const Worker kStart("start",
                    [] { make_comm_world(read_launch_info(), at::kCPU, std::chrono::seconds(3)); });

TEST(DistCommStart, MissingRankIsNamed) {
  const auto results = run_workers("start", 3, {}, {1});
  EXPECT_EQ(results[0].exit_code, 1);
  EXPECT_THAT(results[0].output, HasSubstr("missing ranks: 1."));
  EXPECT_EQ(results[2].exit_code, 1);
  EXPECT_THAT(results[2].output, HasSubstr("rank 2"));
}

TEST(DistCommStart, MissingRankZeroIsAnError) {
  const auto results = run_workers("start", 2, {}, {0});
  EXPECT_EQ(results[1].exit_code, 1);
  EXPECT_THAT(results[1].output, HasSubstr("rank 1 of 2 cannot reach 127.0.0.1:"));
}

const Worker kHalfStart("half_start", [] {
  const LaunchInfo launch = read_launch_info();
  if (launch.rank == 1) {
    meet(launch, std::chrono::seconds(20));
    _exit(7);
  }
  make_comm_world(launch, at::kCPU, std::chrono::seconds(3));
});

TEST(DistCommStart, RankThatDiesWhileConnectingIsAnError) {
  const auto results = run_workers("half_start", 2);
  EXPECT_EQ(results[1].exit_code, 7);
  EXPECT_EQ(results[0].exit_code, 1);
  EXPECT_THAT(results[0].output, HasSubstr("rank 0 of 2 (host "));
  EXPECT_THAT(results[0].output,
              HasSubstr("cannot connect to the other processes within 3 s (group "
                        "world of ranks 0, 1)"));
}

/// Lets others connect, and never says a word.
struct SilentServer {
  SilentServer() {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_ANY);
    socklen_t size = sizeof(address);
    GIMBAL_CHECK(bind(file, reinterpret_cast<sockaddr*>(&address), size) == 0 &&
                     getsockname(file, reinterpret_cast<sockaddr*>(&address), &size) == 0 &&
                     listen(file, 1) == 0,
                 "no free port");
    port = std::to_string(ntohs(address.sin_port));
  }
  ~SilentServer() { close(file); }
  SilentServer(const SilentServer&) = delete;
  SilentServer& operator=(const SilentServer&) = delete;

  int file = socket(AF_INET, SOCK_STREAM, 0);
  std::string port;
};

TEST(DistCommStart, TakenPortIsAnError) {
  const SilentServer taken;
  const auto results = run_workers("start", 2, {{"MASTER_PORT", taken.port}}, {1});
  EXPECT_EQ(results[0].exit_code, 1);
  EXPECT_THAT(results[0].output, HasSubstr("rank 0 of 2 cannot serve at 127.0.0.1:"));
}

TEST(DistCommStart, UnknownInterfaceIsAnError) {
  for (const WorkerResult& result : run_workers("start", 2, {{"GLOO_SOCKET_IFNAME", "nosuch0"}})) {
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_THAT(result.output, HasSubstr("the network interface 'nosuch0' cannot be used"));
  }
}

TEST(DistCommStart, NamedInterfaceIsUsed) {
  for (const WorkerResult& result : run_workers("start", 2, {{"GLOO_SOCKET_IFNAME", "lo"}})) {
    EXPECT_EQ(result.exit_code, 0) << result.output;
  }
}

const Worker kReport("report", [] {
  const LaunchInfo launch = read_launch_info();
  const std::string own = concat("rank ", launch.rank, ": ");
  const auto ask = [&](const std::string& error) {
    // Far more than the agent needs, so that only its answers count.
    const bool is_first = is_first_to_report(launch, error, std::chrono::seconds(30));
    std::cout << error << (is_first ? " first\n" : " again\n");
  };
  ask("no data");
  // What rank 2 says, the others repeat with its name.
  ask(launch.rank == 2 ? "disk full" : "rank 2: disk full");
  ask(own + "has another recipe, too");  // one message, whoever is named
  ask(concat("sample ", launch.rank, " is broken"));
  std::cout << std::flush;
});

TEST(DistCommStart, RanksThatFailInTheSameWaySaySoOnce) {
  const AgentStore agent;
  const auto results = run_workers("report", 3, agent.leading_here());
  std::string all;
  for (std::size_t rank = 0; rank < results.size(); ++rank) {
    EXPECT_EQ(results[rank].exit_code, 0) << results[rank].output;
    // A message of its own is printed.
    EXPECT_THAT(results[rank].output, HasSubstr(concat("sample ", rank, " is broken first\n")));
    all += results[rank].output;
  }
  for (const char* error : {"no data", "disk full", "has another recipe, too"}) {
    const std::string text = error;
    std::size_t count = 0;
    for (std::size_t at = all.find(text + " first"); at != std::string::npos;
         at = all.find(text + " first", at + 1))
      ++count;
    EXPECT_EQ(count, 1u) << text << "\n" << all;
  }
}

const Worker kSilentAgent("ask a silent agent", [] {
  const bool is_first =
      is_first_to_report(read_launch_info(), "no data", std::chrono::milliseconds(200));
  std::cout << (is_first ? "first" : "again") << std::flush;
});

TEST(DistCommStart, AnAgentThatDoesNotAnswerHoldsUpNoReport) {
  const SilentServer agent;  // as one that is halted
  const auto results =
      run_workers("ask a silent agent", 2,
                  {{"TORCHELASTIC_USE_AGENT_STORE", "True"}, {"MASTER_PORT", agent.port}}, {1});
  EXPECT_EQ(results[0].exit_code, 0);
  EXPECT_EQ(results[0].output, "first");
}

TEST(DistCommStart, WithoutAnAgentEveryRankReports) {
  for (const WorkerResult& result : run_workers("report", 2))
    EXPECT_THAT(result.output, HasSubstr("no data first\n"));
}

bool is_refused_rank() { return std::string(std::getenv("RANK")) == std::getenv("REFUSED_RANK"); }

/// Of the ranks of `comm`, wrong ones end the worker.
void check_sum(Comm& comm) {
  at::Tensor sum = at::full({1000}, 1.0 + comm.rank());
  comm.all_reduce_sum(sum, "sum")->wait();
  const double expected = comm.size() * (comm.size() + 1) / 2.0;
  GIMBAL_CHECK(sum.eq(expected).all().item<bool>(), "a wrong sum");
}

/// Says what carries the messages of all, and of the last two of three ranks.
void say_transports() {
  const LaunchInfo launch = read_launch_info();
  const auto world = make_comm_world(launch, at::kCPU, std::chrono::seconds(20));
  check_sum(world->world());
  std::cout << world->world().transport() << "\n";
  if (launch.world_size == 3 && launch.rank > 0) {
    const auto pair = world->make_group("pair", {1, 2});
    check_sum(*pair);
    std::cout << pair->transport() << "\n";
  }
  std::cout << world->shared_memory_trouble() << std::flush;
  world->world().barrier("end");
}

// The bells of a machine fit into the limit, the rings of a group do not.
const Worker kNoRings("no rings", [] {
  if (is_refused_rank()) {
    std::signal(SIGXFSZ, SIG_IGN);  // an error instead
    rlimit limit{};
    GIMBAL_CHECK(getrlimit(RLIMIT_FSIZE, &limit) == 0, "getrlimit");
    limit.rlim_cur = 4096;
    GIMBAL_CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0, "setrlimit");
  }
  say_transports();
});

TEST(DistCommStart, RefusedRingsAreDoneWithout) {
  for (const WorkerResult& result : run_workers("no rings", 2, {{"REFUSED_RANK", "0"}})) {
    EXPECT_EQ(result.exit_code, 0);
    EXPECT_EQ(result.output, "gloo\ngroup world of ranks 0, 1: rank 0: ftruncate: File too large");
  }
}

TEST(DistCommStart, RefusedRingsOfOneGroupLeaveTheOthers) {
  const auto results = run_workers("no rings", 3, {{"REFUSED_RANK", "1"}});
  for (const WorkerResult& result : results) EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(results[0].output, "shared memory\n");
  for (const std::size_t rank : {1u, 2u}) {
    EXPECT_EQ(results[rank].output,
              "shared memory\ngloo\ngroup pair of ranks 1, 2: rank 1: ftruncate: File too large");
  }
}

TEST(DistCommStart, UnwantedSharedMemoryIsNoTrouble) {
  const auto results =
      run_workers("no rings", 2, {{"REFUSED_RANK", "0"}, {"GIMBAL_TRANSPORT", "tcp"}});
  for (const WorkerResult& result : results) {
    EXPECT_EQ(result.exit_code, 0);
    EXPECT_EQ(result.output, "gloo\n");
  }
}

// Nobody looks into a process that says so, but for root, who becomes somebody else.
const Worker kNoAccess("no access", [] {
  GIMBAL_CHECK(prctl(PR_SET_DUMPABLE, 0) == 0, "prctl");
  constexpr uid_t kNobody = 65534;
  if (is_refused_rank() && geteuid() == 0)
    GIMBAL_CHECK(setresuid(kNobody, kNobody, kNobody) == 0, "setresuid");
  say_transports();
  prctl(PR_SET_DUMPABLE, 1);  // for sanitizers, which look at their process when it ends
});

TEST(DistCommStart, RankThatMayNotOpenTheMemoryIsNamed) {
  for (const WorkerResult& result : run_workers("no access", 2, {{"REFUSED_RANK", "1"}})) {
    EXPECT_EQ(result.exit_code, 0);
    EXPECT_THAT(result.output, testing::StartsWith("gloo\nrank 1: /proc/"));
    EXPECT_THAT(result.output, testing::EndsWith(": Permission denied"));
  }
}

bool enter_process_namespace() {
  return unshare(CLONE_NEWPID) == 0 || unshare(CLONE_NEWUSER | CLONE_NEWPID) == 0;
}

/// Runs `work` in a process that is not this one; its exit code.
int run_forked(const std::function<void()>& work) {
  const pid_t process = fork();
  if (process == 0) {
    work();
    std::cout << std::flush;
    _exit(0);
  }
  int status = -1;
  GIMBAL_CHECK(process > 0 && waitpid(process, &status, 0) == process, "fork");
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

const Worker kContainers("containers", [] {
  if (!is_refused_rank()) return say_transports();
  GIMBAL_CHECK(enter_process_namespace(), "unshare");  // of processes to come
  GIMBAL_CHECK_EQ(run_forked(say_transports), 0);
});

TEST(DistCommStart, RanksInDifferentContainersAreNamed) {
  if (run_forked([] { _exit(enter_process_namespace() ? 0 : 1); }) != 0)
    GTEST_SKIP() << "this system gives no process namespace";
  for (const WorkerResult& result : run_workers("containers", 2, {{"REFUSED_RANK", "1"}})) {
    EXPECT_EQ(result.exit_code, 0);
    EXPECT_EQ(result.output,
              "gloo\nin different process namespaces (containers) of a machine: rank 0, rank 1");
  }
}

#ifndef USE_C10D_NCCL
const Worker kCuda("cuda", [] {
  make_comm_world(read_launch_info(), at::Device(at::kCUDA, 0), std::chrono::seconds(30));
});

TEST(DistCommStart, CudaWithoutNcclIsAnError) {
  for (const WorkerResult& result : run_workers("cuda", 2)) {
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_THAT(result.output, HasSubstr("this torch has no NCCL"));
  }
}
#endif

}  // namespace
}  // namespace gimbal
