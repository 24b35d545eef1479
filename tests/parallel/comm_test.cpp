#include "gimbal/parallel/comm.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <iostream>
#include <thread>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include "gimbal/base/error.h"
#include "gimbal/parallel/comm_c10d.h"
#include "workers.h"

namespace gimbal {
namespace {

using testing::HasSubstr;
using testing_workers::run_workers;
using testing_workers::Worker;
using testing_workers::WorkerResult;

std::unique_ptr<Comm> world(int timeout_ms = 60000) {
  return make_world_comm(read_launch_info(), at::kCPU, std::chrono::milliseconds(timeout_ms));
}

const Worker kCollectives("collectives", [] {
  const auto comm = world();
  const int rank = comm->rank();
  at::Tensor a = at::arange(4, at::kFloat) * (rank + 1);
  at::Tensor b = at::full({2}, 1 << rank, at::kLong);
  const auto first = comm->all_reduce_sum(a, "a");
  const auto second = comm->all_reduce_sum(b, "b");
  second->wait();
  first->wait();
  at::Tensor c = at::full({3}, 10.0 + rank, at::kDouble);
  comm->broadcast(c, 1, "c")->wait();
  const at::Tensor d = comm->all_gather(at::full({1, 2}, rank, at::kFloat), "d");
  comm->barrier("end");
  std::cout << a[3].item<float>() << " " << b[1].item<std::int64_t>() << " "
            << c.sum().item<double>() << " " << d.sizes() << " ";
  for (int i = 0; i < comm->size(); ++i) std::cout << d[i][0][1].item<float>();
});

TEST(DistComm, CollectivesGiveTheSameOnAllRanks) {
  const auto results = run_workers("collectives", 3);
  for (const WorkerResult& result : results) {
    EXPECT_EQ(result.exit_code, 0) << result.output;
    EXPECT_EQ(result.output, "18 7 33 [3, 1, 2] 012");
  }
}

const Worker kBytes("bytes", [] {
  const auto comm = world();
  const std::vector<std::string> texts{"", std::string("a\0b", 3), "longer text"};
  for (const std::string& text :
       all_gather_bytes(*comm, texts[static_cast<std::size_t>(comm->rank())], "texts")) {
    std::cout << text.size() << ":" << text << ";";
  }
  std::cout << all_gather_bytes(*comm, "", "nothing").size();
});

TEST(DistComm, GathersBytesOfUnevenLengths) {
  for (const WorkerResult& result : run_workers("bytes", 3)) {
    EXPECT_EQ(result.exit_code, 0) << result.output;
    EXPECT_EQ(result.output, std::string("0:;3:a\0b;11:longer text;3", 25));
  }
}

const Worker kDeath("death", [] {
  const auto comm = world(20000);
  if (comm->rank() == 1) _exit(7);
  at::Tensor gradients = at::ones({100});
  comm->all_reduce_sum(gradients, "gradients of text.3")->wait();
});

TEST(DistComm, DeadRankEndsTheOthersWithAMessage) {
  const auto results = run_workers("death", 3);
  EXPECT_EQ(results[1].exit_code, 7);
  for (const int rank : {0, 2}) {
    const WorkerResult& result = results[static_cast<std::size_t>(rank)];
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_THAT(result.output, HasSubstr("all_reduce_sum of 'gradients of text.3' failed on rank " +
                                         std::to_string(rank) + " of 3 after "));
    EXPECT_THAT(result.output, HasSubstr("(timeout 20 s)"));
  }
}

const Worker kStuck("stuck", [] {
  const auto comm = world(2000);
  if (comm->rank() == 1) {
    std::this_thread::sleep_for(std::chrono::seconds(6));
    _exit(0);
  }
  comm->barrier("after step 3");
});

TEST(DistComm, StuckRankEndsTheOthersAtTheTimeout) {
  const auto results = run_workers("stuck", 2);
  EXPECT_EQ(results[0].exit_code, 2);
  EXPECT_THAT(results[0].output, HasSubstr("barrier of 'after step 3' failed on rank 0 of 2"));
  EXPECT_THAT(results[0].output, HasSubstr("(timeout 2 s)"));
}

const Worker kStart("start", [] { world(3000); });

TEST(DistComm, MissingRankIsNamed) {
  const auto results = run_workers("start", 3, {}, {1});
  EXPECT_EQ(results[0].exit_code, 2);
  EXPECT_THAT(results[0].output, HasSubstr("missing ranks: 1."));
  EXPECT_EQ(results[2].exit_code, 2);
  EXPECT_THAT(results[2].output, HasSubstr("rank 2"));
}

TEST(DistComm, MissingRankZeroIsAnError) {
  const auto results = run_workers("start", 2, {}, {0});
  EXPECT_EQ(results[1].exit_code, 2);
  EXPECT_THAT(results[1].output, HasSubstr("rank 1 of 2 cannot reach 127.0.0.1:"));
}

const Worker kHalfStart("half_start", [] {
  const LaunchInfo launch = read_launch_info();
  if (launch.rank == 1) {
    meet(launch, std::chrono::seconds(20));
    _exit(7);
  }
  make_world_comm(launch, at::kCPU, std::chrono::seconds(3));
});

TEST(DistComm, RankThatDiesWhileConnectingIsAnError) {
  const auto results = run_workers("half_start", 2);
  EXPECT_EQ(results[1].exit_code, 7);
  EXPECT_EQ(results[0].exit_code, 2);
  EXPECT_THAT(results[0].output,
              HasSubstr("rank 0 of 2 cannot connect to the other processes within 3 s"));
}

TEST(DistComm, TakenPortIsAnError) {
  const int taken = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_ANY);
  socklen_t size = sizeof(address);
  ASSERT_EQ(bind(taken, reinterpret_cast<sockaddr*>(&address), size), 0);
  ASSERT_EQ(getsockname(taken, reinterpret_cast<sockaddr*>(&address), &size), 0);
  ASSERT_EQ(listen(taken, 1), 0);
  const auto results =
      run_workers("start", 2, {{"MASTER_PORT", std::to_string(ntohs(address.sin_port))}}, {1});
  close(taken);
  EXPECT_EQ(results[0].exit_code, 2);
  EXPECT_THAT(results[0].output, HasSubstr("rank 0 of 2 cannot serve at 127.0.0.1:"));
}

TEST(DistComm, UnknownInterfaceIsAnError) {
  for (const WorkerResult& result : run_workers("start", 2, {{"GLOO_SOCKET_IFNAME", "nosuch0"}})) {
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_THAT(result.output, HasSubstr("the network interface 'nosuch0' cannot be used"));
  }
}

TEST(DistComm, NamedInterfaceIsUsed) {
  for (const WorkerResult& result : run_workers("start", 2, {{"GLOO_SOCKET_IFNAME", "lo"}})) {
    EXPECT_EQ(result.exit_code, 0) << result.output;
  }
}

#ifndef USE_C10D_NCCL
const Worker kCuda("cuda", [] {
  make_world_comm(read_launch_info(), at::Device(at::kCUDA, 0), std::chrono::seconds(30));
});

TEST(DistComm, CudaWithoutNcclIsAnError) {
  for (const WorkerResult& result : run_workers("cuda", 2)) {
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_THAT(result.output, HasSubstr("this torch has no NCCL"));
  }
}
#endif

}  // namespace
}  // namespace gimbal
