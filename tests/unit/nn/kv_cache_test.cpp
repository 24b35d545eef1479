#include "gimbal/nn/attention/kv_cache.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/ones.h>
#include <gtest/gtest.h>

#include "gimbal/base/error.h"

namespace gimbal {
namespace {

TEST(KvCacheLayers, HaveNoMemoryBeforeTheirPromptIsStored) {
  KvCache cache(3, 1, 4, 2, 8, at::TensorOptions(at::kFloat));
  for (const std::int64_t layer : {0, 1, 2}) {
    EXPECT_FALSE(cache.keys(layer).defined()) << layer;
    EXPECT_FALSE(cache.values(layer).defined()) << layer;
  }
  cache.store_prompt(1, at::ones({2, 2, 8}), at::ones({2, 2, 8}), {0, 2});
  EXPECT_EQ(cache.keys(1).sizes().vec(), (std::vector<std::int64_t>{1, 4, 2, 8}));
  EXPECT_EQ(cache.values(1).sizes().vec(), (std::vector<std::int64_t>{1, 4, 2, 8}));
  EXPECT_FALSE(cache.keys(0).defined());
  EXPECT_FALSE(cache.keys(2).defined());
}

TEST(KvCacheLayers, OfOneStageAreFilledWithoutTheOthers) {
  KvCache cache(2, 1, 3, 1, 2, at::TensorOptions(at::kFloat));
  cache.store_prompt(1, at::ones({1, 1, 2}), at::ones({1, 1, 2}), {0, 1});
  cache.advance({1});
  cache.store_next(1, at::ones({1, 1, 2}) * 3, at::ones({1, 1, 2}) * 4);
  cache.advance({1});
  EXPECT_EQ(cache.keys(1)[0][1].sum().item<float>(), 6);
  EXPECT_EQ(cache.values(1)[0][1].sum().item<float>(), 8);
  EXPECT_EQ(cache.values(1)[0][2].sum().item<float>(), 0);
  EXPECT_FALSE(cache.keys(0).defined());
  // A layer whose prompt was never seen has nothing that a token could follow.
  EXPECT_THROW(cache.store_next(0, at::ones({1, 1, 2}), at::ones({1, 1, 2})), InternalError);
}

TEST(KvCacheLayers, AreNotMadeForAPromptThatDoesNotFit) {
  KvCache cache(1, 2, 2, 1, 2, at::TensorOptions(at::kFloat));
  EXPECT_THROW(cache.store_prompt(0, at::ones({4, 1, 2}), at::ones({4, 1, 2}), {0, 1, 4}),
               UserError);
  EXPECT_FALSE(cache.keys(0).defined());
}

TEST(KvCacheLayers, OfNoSequencesTakeNoMemory) {
  KvCache cache(1, 0, 4, 1, 2, at::TensorOptions(at::kFloat));
  cache.store_prompt(0, at::ones({0, 1, 2}), at::ones({0, 1, 2}), {0});
  EXPECT_EQ(cache.keys(0).numel(), 0);
}

}  // namespace
}  // namespace gimbal
