#include "gimbal/nn/parameter.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/ones.h>
#include <gtest/gtest.h>

#include <cmath>

#include "gimbal/base/error.h"
#include "gimbal/nn/attention/kv_cache.h"

namespace gimbal {
namespace {

Parameter normal_parameter(const std::string& name, std::vector<std::int64_t> shape,
                           double deviation) {
  Parameter p;
  p.name = name;
  p.full_shape = p.shape = std::move(shape);
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

TEST(Parameter, PartsHaveTheValuesOfTheWhole) {
  const auto whole = normal_parameter("a", {6, 5}, 1);
  const at::Tensor values = initial_values(whole, 3);
  auto part = whole;
  take_part(part, 1, 2, 3);
  EXPECT_EQ(part.shape, (std::vector<std::int64_t>{6, 3}));
  EXPECT_EQ(part.numel(), 18);
  EXPECT_EQ(part.full_numel(), 30);
  EXPECT_TRUE(initial_values(part, 3).equal(values.narrow(1, 2, 3)));
  EXPECT_TRUE(part_of(part, values).equal(values.narrow(1, 2, 3)));
  EXPECT_TRUE(part_of(whole, values).is_same(values));
  EXPECT_THROW(take_part(part, 0, 0, 1), InternalError);  // cut already
  auto other = whole;
  EXPECT_THROW(take_part(other, 0, 5, 2), InternalError);
  EXPECT_THROW(take_part(other, 2, 0, 1), InternalError);
}

// Odd sizes: the parts begin and end inside of the pairs in which normals are made.
TEST(Parameter, PartsOfAnyDimAreMadeAlone) {
  for (const double deviation : {1.0, 0.0}) {
    auto whole = normal_parameter("a", {5, 7, 3}, deviation);
    if (deviation == 0) whole.init = {Init::Kind::kConstant, 4.0};
    const at::Tensor values = initial_values(whole, 3);
    for (int dim = 0; dim < 3; ++dim) {
      const std::int64_t rows = whole.shape[static_cast<std::size_t>(dim)];
      for (std::int64_t begin = 0; begin <= rows; ++begin) {
        for (std::int64_t size = 0; begin + size <= rows; ++size) {
          auto part = whole;
          take_part(part, dim, begin, size);
          const at::Tensor own = initial_values(part, 3);
          EXPECT_TRUE(own.equal(values.narrow(dim, begin, size))) << dim << begin << size;
          // Nothing of the whole is kept.
          EXPECT_TRUE(own.is_contiguous());
          EXPECT_EQ(own.storage().nbytes(), static_cast<std::size_t>(own.numel()) * 4);
        }
      }
    }
  }
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
