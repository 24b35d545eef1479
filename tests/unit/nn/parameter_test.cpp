#include "gimbal/nn/parameter.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/ones.h>
#include <gtest/gtest.h>

#include <cmath>

#include "gimbal/base/error.h"
#include "gimbal/nn/kv_cache.h"

namespace gimbal {
namespace {

Parameter normal_parameter(const std::string& name, std::vector<std::int64_t> shape,
                           double deviation) {
  Parameter p;
  p.name = name;
  p.shape = std::move(shape);
  p.init = {Init::Kind::kNormal, deviation};
  return p;
}

TEST(Parameter, InitialValues_AreNormal) {
  at::set_num_threads(1);
  const at::Tensor x = initial_values(normal_parameter("a", {1001, 999}, 0.5), 3).to(at::kDouble);
  const double n = 1001.0 * 999.0;
  // Five standard errors of mean, deviation and fourth moment.
  EXPECT_NEAR(x.mean().item<double>(), 0.0, 5 * 0.5 / std::sqrt(n));
  EXPECT_NEAR(x.std().item<double>(), 0.5, 5 * 0.5 / std::sqrt(2 * n));
  EXPECT_NEAR((x / 0.5).pow(4).mean().item<double>(), 3.0, 5 * std::sqrt(96.0 / n));
  // The two halves of a pair are independent.
  const at::Tensor pairs = x.reshape({-1}).narrow(0, 0, 999998).view({-1, 2}) / 0.5;
  EXPECT_NEAR(pairs.prod(1).mean().item<double>(), 0.0, 5 * std::sqrt(2.0 / n));
}

TEST(Parameter, InitialValues_DependOnSeedAndNameOnly) {
  const auto p = normal_parameter("a", {33, 3}, 1);
  const at::Tensor x = initial_values(p, 3);
  EXPECT_TRUE(x.equal(initial_values(p, 3)));
  EXPECT_TRUE(x.reshape({-1}).equal(initial_values(normal_parameter("a", {99}, 1), 3)));
  EXPECT_FALSE(x.equal(initial_values(p, 4)));
  EXPECT_FALSE(x.equal(initial_values(normal_parameter("b", {33, 3}, 1), 3)));
}

TEST(Parameter, List_RefusesTheSameNameTwice) {
  ParameterList list;
  list.add("a", {2}, {});
  EXPECT_THROW(list.add("a", {2}, {}), InternalError);
}

TEST(KvCache, StoresPromptsThenTokensAtTheirLengths) {
  KvCache cache(1, 2, 5, 1, 2, at::TensorOptions(at::kFloat));
  cache.store_prompt(0, at::ones({4, 1, 2}), at::ones({4, 1, 2}) * 2, {0, 1, 4});
  cache.advance({1, 3});
  cache.store_next(0, at::ones({2, 1, 2}) * 7, at::ones({2, 1, 2}) * 8);
  cache.advance({1, 1});
  EXPECT_EQ(cache.lengths(), (std::vector<std::int64_t>{2, 4}));
  EXPECT_EQ(cache.keys(0)[0][1].sum().item<float>(), 14);
  EXPECT_EQ(cache.keys(0)[1][3].sum().item<float>(), 14);
  EXPECT_EQ(cache.values(0)[1][2].sum().item<float>(), 4);
  EXPECT_EQ(cache.keys(0)[0][2].sum().item<float>(), 0);
}

TEST(KvCache, FullCacheIsAUserError) {
  KvCache cache(1, 1, 2, 1, 2, at::TensorOptions(at::kFloat));
  EXPECT_THROW(cache.store_prompt(0, at::ones({3, 1, 2}), at::ones({3, 1, 2}), {0, 3}), UserError);
  cache.store_prompt(0, at::ones({2, 1, 2}), at::ones({2, 1, 2}), {0, 2});
  cache.advance({2});
  EXPECT_THROW(cache.store_next(0, at::ones({1, 1, 2}), at::ones({1, 1, 2})), UserError);
}

}  // namespace
}  // namespace gimbal
