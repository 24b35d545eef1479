#include "gimbal/optim/clip.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "parallel/counting_comm.h"

namespace gimbal {
namespace {

std::vector<FlatShard> make_shards(at::ScalarType dtype) {
  at::set_num_threads(1);
  std::vector<FlatShard> shards(3);
  shards[0].gradients = at::tensor({3.0, 0.0}, at::kDouble).to(dtype);
  shards[1].gradients = at::tensor({4.0, 12.0, 0.0}, at::kDouble).to(dtype);
  for (FlatShard& shard : shards) shard.values = at::tensor({1.0}, at::kDouble).to(dtype);
  return shards;  // the third is frozen
}

TEST(GlobalNorm, IsTheNormOfAllShards) {
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble}) {
    const at::Tensor norm = global_norm(make_shards(dtype));
    EXPECT_EQ(norm.dim(), 0);
    EXPECT_EQ(norm.scalar_type(), at::kDouble);
    EXPECT_NEAR(norm.item<double>(), 13.0, 13 * 1.2e-7);
  }
  EXPECT_EQ(global_norm({}).item<double>(), 0.0);
  EXPECT_EQ(global_norm(std::vector<FlatShard>(0)).scalar_type(), at::kDouble);
}

TEST(GlobalNorm, SkipsEmptyShards) {
  std::vector<FlatShard> shards = make_shards(at::kFloat);
  shards[0].gradients = shards[0].gradients.narrow(0, 0, 0);
  EXPECT_NEAR(global_norm(shards).item<double>(), std::sqrt(160.0), 1e-5);
  clip_gradients(shards, global_norm(shards), 1.0);
  EXPECT_NEAR(global_norm(shards).item<double>(), 1.0, 1e-6);
  shards[1].gradients = shards[0].gradients;
  EXPECT_EQ(global_norm({shards[0], shards[1]}).item<double>(), 0.0);
}

TEST(GlobalNorm, CountsEachGradientOnce) {
  std::vector<FlatShard> shards = make_shards(at::kFloat);
  toy::CountingComm world(4);
  shards[1].replica = 2;
  shards[1].num_replicas = 3;
  // Four ranks with 3^2 each.
  const at::Tensor norm = global_norm(shards, world);
  EXPECT_EQ(norm.scalar_type(), at::kDouble);
  EXPECT_NEAR(norm.item<double>(), 6.0, 1e-6);
  EXPECT_EQ(world.calls, (std::vector<std::string>{"sum gradient norm"}));
  // A rank that holds nothing of its own takes part.
  shards[0].replica = 1;
  EXPECT_EQ(global_norm(shards, world).item<double>(), 0.0);
  EXPECT_EQ(world.calls.size(), 2U);
}

TEST(GlobalNorm, OfOneRankIsThatOfItsShards) {
  const std::vector<FlatShard> shards = make_shards(at::kFloat);
  const auto single = make_single_comm();
  EXPECT_TRUE(at::equal(global_norm(shards, *single), global_norm(shards)));
}

TEST(GlobalNorm, IsExactForLargeShards) {
  std::vector<FlatShard> shards(1);
  shards[0].gradients = at::full({2'500'001}, 1.5e-3, at::kFloat);
  const double expected = shards[0].gradients[0].item<double>() * std::sqrt(2'500'001.0);
  EXPECT_NEAR(global_norm(shards).item<double>(), expected, 1e-6 * expected);
}

TEST(GlobalNorm, ShowsWhatIsNotFinite) {
  std::vector<FlatShard> shards = make_shards(at::kFloat);
  shards[1].gradients[0] = std::numeric_limits<double>::quiet_NaN();
  EXPECT_TRUE(std::isnan(global_norm(shards).item<double>()));
}

TEST(Clip, ScalesTheGradientsToTheNorm) {
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble}) {
    std::vector<FlatShard> shards = make_shards(dtype);
    clip_gradients(shards, global_norm(shards), 2.0);
    EXPECT_NEAR(global_norm(shards).item<double>(), 2.0, 1e-5);
    EXPECT_NEAR(shards[1].gradients[1].item<double>(), 12.0 * 2.0 / (13.0 + 1e-6), 1e-6);
    EXPECT_EQ(shards[1].gradients.scalar_type(), dtype);
  }
}

TEST(Clip, LeavesSmallGradientsAlone) {
  std::vector<FlatShard> shards = make_shards(at::kFloat);
  const at::Tensor before = shards[1].gradients.clone();
  clip_gradients(shards, global_norm(shards), 20.0);
  EXPECT_TRUE(at::equal(shards[1].gradients, before));
}

}  // namespace
}  // namespace gimbal
