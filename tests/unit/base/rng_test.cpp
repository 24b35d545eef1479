#include "gimbal/base/rng.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace gimbal {
namespace {

// Reference values of SplitMix64 with seed 0: its n-th output is mix_bits(n * golden ratio).
TEST(MixBits, IsSplitMix64) {
  EXPECT_EQ(mix_bits(0), 0xe220a8397b1dcdafULL);
  EXPECT_EQ(mix_bits(0x9e3779b97f4a7c15ULL), 0x6e789e6aa1b965f4ULL);
}

// Reference values of 64-bit FNV-1a.
TEST(HashName, IsFnv1a) {
  EXPECT_EQ(hash_name(""), 0xcbf29ce484222325ULL);
  EXPECT_EQ(hash_name("a"), 0xaf63dc4c8601ec8cULL);
}

TEST(CounterRng, DependsOnSeedStreamAndIndexAlone) {
  const CounterRng rng(1, 2);
  const auto value = rng.bits(3);
  rng.bits(7);
  EXPECT_EQ(rng.bits(3), value);
  EXPECT_EQ(CounterRng(1, 2).bits(3), value);
  EXPECT_NE(CounterRng(2, 2).bits(3), value);
  EXPECT_NE(CounterRng(1, 3).bits(3), value);
  EXPECT_NE(CounterRng(2, 1).bits(3), value);
}

// Bounds: 5 standard errors of the mean of n values (1/sqrt(12 n) uniform, 1/sqrt(n) normal).
TEST(CounterRng, HasTheRightMoments) {
  const CounterRng rng(5);
  constexpr int kSize = 100000;
  double uniform = 0;
  double normal = 0;
  double square = 0;
  for (std::uint64_t i = 0; i < kSize; ++i) {
    uniform += rng.uniform(i);
    normal += rng.normal(i);
    square += rng.normal(i) * rng.normal(i);
  }
  EXPECT_NEAR(uniform / kSize, 0.5, 5 / std::sqrt(12.0 * kSize));
  EXPECT_NEAR(normal / kSize, 0.0, 5 / std::sqrt(1.0 * kSize));
  EXPECT_NEAR(square / kSize, 1.0, 5 * std::sqrt(2.0 / kSize));
}

RC_GTEST_PROP(CounterRng, BelowStaysBelow, (std::uint64_t seed, std::uint64_t index)) {
  const auto bound = *rc::gen::inRange<std::uint64_t>(1, 1ULL << 40);
  RC_ASSERT(CounterRng(seed).below(index, bound) < bound);
}

RC_GTEST_PROP(RandomPermutation, HoldsEveryNumberOnce, (std::uint64_t seed)) {
  const auto size = *rc::gen::inRange<std::uint32_t>(0, 200);
  auto order = random_permutation(size, CounterRng(seed));
  std::sort(order.begin(), order.end());
  std::vector<std::uint32_t> expected(size);
  std::iota(expected.begin(), expected.end(), 0U);
  RC_ASSERT(order == expected);
}

TEST(RandomPermutation, DependsOnTheSeed) {
  EXPECT_NE(random_permutation(50, CounterRng(1)), random_permutation(50, CounterRng(2)));
}

}  // namespace
}  // namespace gimbal
