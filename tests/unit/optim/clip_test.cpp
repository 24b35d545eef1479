#include "gimbal/optim/clip.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace gimbal {
namespace {

std::vector<FlatShard> make_shards(at::ScalarType dtype) {
  at::set_num_threads(1);
  std::vector<FlatShard> shards(3);
  shards[0].gradients = at::tensor({3.0, 0.0}, at::kDouble).to(dtype);
  shards[1].gradients = at::tensor({4.0, 12.0, 0.0}, at::kDouble).to(dtype);
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
