#include "gimbal/parallel/comm.h"

#include <ATen/Parallel.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include "gimbal/base/error.h"

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

TEST(SingleComm, CopiesWhereOthersExchange) {
  const auto comm = make_single_comm();
  const at::Tensor tensor = at::arange(6, at::kFloat).view({2, 3});
  const at::Tensor gathered = at::zeros({6});
  comm->all_gather_into(gathered, tensor, "t")->wait();
  EXPECT_TRUE(at::equal(gathered.view({2, 3}), tensor));
  const at::Tensor scattered = at::zeros({6});
  comm->reduce_scatter_sum(scattered, tensor, "t")->wait();
  EXPECT_TRUE(at::equal(scattered, gathered));
  comm->reduce_scatter_sum(tensor, tensor, "in place")->wait();
  const at::Tensor rows = at::zeros({2, 3});
  comm->all_to_all(rows, tensor, {2}, {2}, "t")->wait();
  EXPECT_TRUE(at::equal(rows, tensor));
  const at::Tensor gathered_rows = at::zeros({2, 3});
  comm->all_gather_rows(gathered_rows, tensor, {2}, "t")->wait();
  EXPECT_TRUE(at::equal(gathered_rows, tensor));
}

TEST(SingleComm, RefusesWhatNeedsAPartner) {
  const auto comm = make_single_comm();
  const at::Tensor tensor = at::zeros({4});
  EXPECT_THROW(comm->send(tensor, 0, "t"), InternalError);
  EXPECT_THROW(comm->receive(tensor, 0, "t"), InternalError);
  EXPECT_THROW(comm->broadcast(tensor, 1, "t"), InternalError);
  EXPECT_THROW(comm->all_gather_into(at::zeros({8}), tensor, "t"), InternalError);
  EXPECT_THROW(comm->all_to_all(at::zeros({4}), tensor, {4}, {3}, "t"), InternalError);
  EXPECT_THROW(comm->all_gather_rows(at::zeros({4}), tensor, {3}, "t"), InternalError);
}

TEST(CommWorld, OneProcessHasGroupsOfOne) {
  const auto world = make_comm_world(LaunchInfo{}, at::kCPU, std::chrono::seconds(1));
  EXPECT_EQ(world->world().size(), 1);
  EXPECT_EQ(world->make_group("a", {0})->size(), 1);
  EXPECT_THROW(world->make_group("a", {0}), InternalError);
  EXPECT_THROW(world->make_group("b", {1}), InternalError);
  world->report_failure(std::runtime_error("nobody to tell"));
}

TEST(WorldComm, OneProcessNeedsNoPort) {
  LaunchInfo launch;
  launch.launcher = "single";
  const auto comm = make_world_comm(launch, at::kCPU, std::chrono::seconds(1));
  EXPECT_EQ(comm->size(), 1);
}

}  // namespace
}  // namespace gimbal
