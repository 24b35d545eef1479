#include "gimbal/parallel/comm.h"

#include <ATen/Parallel.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <gtest/gtest.h>

namespace gimbal {
namespace {

TEST(SingleComm, ReturnsWhatItGets) {
  at::set_num_threads(1);
  const auto comm = make_single_comm();
  EXPECT_EQ(comm->rank(), 0);
  EXPECT_EQ(comm->size(), 1);
  at::Tensor tensor = at::arange(6, at::kFloat).view({2, 3});
  const at::Tensor before = tensor.clone();
  comm->all_reduce_sum(tensor, "t")->wait();
  comm->broadcast(tensor, 0, "t")->wait();
  comm->barrier("b");
  EXPECT_TRUE(at::equal(tensor, before));
  const at::Tensor gathered = comm->all_gather(tensor, "t");
  EXPECT_EQ(gathered.sizes(), (std::vector<std::int64_t>{1, 2, 3}));
  EXPECT_TRUE(at::equal(gathered[0], before));
  EXPECT_EQ(all_gather_bytes(*comm, "abc", "bytes"), std::vector<std::string>{"abc"});
}

TEST(WorldComm, OneProcessNeedsNoPort) {
  LaunchInfo launch;
  launch.launcher = "single";
  const auto comm = make_world_comm(launch, at::kCPU, std::chrono::seconds(1));
  EXPECT_EQ(comm->size(), 1);
}

}  // namespace
}  // namespace gimbal
