#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include "gimbal/train/generate.h"

namespace gimbal {
namespace {

at::Tensor logits() {
  return at::tensor({0.0, std::log(2.0), std::log(4.0), std::log(1.0)}, at::kFloat).view({1, 4});
}

std::array<int, 4> count_draws(const SamplingOptions& options, int num_draws) {
  std::array<int, 4> counts{};
  for (int i = 0; i < num_draws; ++i) {
    ++counts[static_cast<std::size_t>(
        choose_tokens(logits(), options, static_cast<std::uint64_t>(i)).item<std::int64_t>())];
  }
  return counts;
}

TEST(ChooseTokens, ZeroTemperatureTakesTheLargest) {
  EXPECT_EQ(choose_tokens(logits(), {}, 0).item<std::int64_t>(), 2);
}

TEST(ChooseTokens, DrawsByProbability) {
  // Probabilities 1/8, 2/8, 4/8, 1/8. With 4,000 draws the standard deviation of a count is at most
  // 32; 5 of them is 160.
  const auto counts = count_draws({1.0, 1.0, 0, 7}, 4000);
  EXPECT_NEAR(counts[0], 500, 160);
  EXPECT_NEAR(counts[1], 1000, 160);
  EXPECT_NEAR(counts[2], 2000, 160);
  EXPECT_NEAR(counts[3], 500, 160);
}

TEST(ChooseTokens, TopKKeepsTheKLargest) {
  const auto counts = count_draws({1.0, 1.0, 2, 7}, 500);
  EXPECT_EQ(counts[0] + counts[3], 0);
  EXPECT_GT(counts[1], 0);
}

TEST(ChooseTokens, TopPKeepsTheSmallestSetThatReachesP) {
  const auto counts = count_draws({1.0, 0.5, 0, 7}, 200);
  EXPECT_EQ(counts[2], 200);
}

TEST(ChooseTokens, SameSeedSameToken) {
  const SamplingOptions options{1.0, 1.0, 0, 3};
  for (std::uint64_t draw = 0; draw < 20; ++draw) {
    EXPECT_TRUE(
        choose_tokens(logits(), options, draw).equal(choose_tokens(logits(), options, draw)));
  }
}

}  // namespace
}  // namespace gimbal
