#include <ATen/Parallel.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <cmath>

#include "gimbal/nn/attention/attention.h"
#include "gimbal/nn/attention/rotary_table.h"
#include "gimbal/nn/attention/segment_groups.h"
#include "gimbal/nn/loss/linear_cross_entropy.h"
#include "gimbal/nn/ops/gemm.h"
#include "gimbal/nn/ops/rms_norm.h"
#include "gimbal/nn/ops/swiglu.h"
#include "unit/nn/gradient_check.h"

namespace gimbal {
namespace {

using test::expect_gradients;
using test::expect_same_as_float64;
using Tensors = std::vector<at::Tensor>;

// A few roundings of float32 (6e-8) and of bfloat16 (4e-3), summed over tens of terms.
constexpr double kFloatTolerance = 2e-6, kBf16Tolerance = 1e-2;

class OpsTest : public ::testing::Test {
 protected:
  void SetUp() override { at::set_num_threads(1); }
};

at::Tensor random(at::IntArrayRef shape) { return at::randn(shape, at::kDouble); }

void check_op(const test::TensorFunction& f, const Tensors& inputs) {
  expect_gradients(f, inputs);
  expect_same_as_float64(f, inputs, at::kFloat, kFloatTolerance);
  expect_same_as_float64(f, inputs, at::kBFloat16, kBf16Tolerance);
}

TEST_F(OpsTest, RmsNorm_MatchesReference) {
  for (const std::int64_t width : {5, 16, 37}) {
    const auto f = [](const Tensors& x) { return rms_norm(x[0], x[1], 1e-6); };
    check_op(f, {random({7, 3, width}), random({width})});
  }
  const at::Tensor x = random({2, 4}), w = random({4});
  const at::Tensor expected = x / ((x * x).mean(-1, true) + 1e-6).sqrt() * w;
  EXPECT_LE(test::relative_error(rms_norm(x, w, 1e-6), expected), 1e-14);
}

TEST_F(OpsTest, SiluMul_MatchesReference) {
  check_op([](const Tensors& x) { return silu_mul(x[0], x[1]); },
           {random({5, 33}) * 4, random({5, 33})});
}

TEST_F(OpsTest, SiluMul_IsFiniteForLargeInputs) {
  const at::Tensor gate = at::tensor({-1000.f, -90.f, -88.f, 88.f, 1000.f});
  const at::Tensor y = silu_mul(gate, at::ones_like(gate));
  EXPECT_TRUE(y.isfinite().all().item<bool>());
  EXPECT_FLOAT_EQ(y[4].item<float>(), 1000.f);
  EXPECT_NEAR(y[0].item<float>(), 0.f, 1e-30);
}

TEST_F(OpsTest, Rotate_MatchesReferenceAndKeepsNorms) {
  const RotaryTable table({.head_dim = 6, .max_positions = 32});
  const at::Tensor positions = at::tensor(std::vector<std::int64_t>{0, 1, 2, 0, 5});
  const auto f = [&](const Tensors& x) {
    return rotate(x[0], table.angles(positions, {0, 3, 5}, {3, 6}, x[0].scalar_type()));
  };
  check_op(f, {random({5, 3, 6})});
  const at::Tensor x = random({5, 3, 6}), y = f({x});
  EXPECT_LE(test::relative_error(y.norm(2, -1), x.norm(2, -1)), 1e-7);
  EXPECT_TRUE(y[0].equal(x[0]));  // position 0 does not turn
}

TEST_F(OpsTest, RotaryTable_DynamicScalingOfASegmentIgnoresItsNeighbours) {
  const RotarySettings settings{
      .scaling = RotaryScaling::kDynamic, .head_dim = 8, .max_positions = 4, .factor = 2};
  const RotaryTable table(settings);
  const at::Tensor short_positions = at::arange(3), long_positions = at::arange(9);
  const RotaryAngles alone = table.angles(short_positions, {0, 3}, {3}, at::kFloat);
  const RotaryAngles packed =
      table.angles(at::cat({long_positions, short_positions}), {0, 9, 12}, {9, 3}, at::kFloat);
  EXPECT_TRUE(packed.cos_PH.narrow(0, 9, 3).equal(alone.cos_PH.narrow(0, 0, 3)));
  EXPECT_FALSE(packed.cos_PH.narrow(0, 0, 3).equal(alone.cos_PH.narrow(0, 0, 3)));
}

at::Tensor reference_attention(const Tensors& x, const std::vector<std::int64_t>& cu) {
  Tensors parts;
  for (std::size_t i = 0; i + 1 < cu.size(); ++i) {
    const auto part = [&](const at::Tensor& t) {
      return t.narrow(0, cu[i], cu[i + 1] - cu[i]).transpose(0, 1).unsqueeze(0);
    };
    const std::int64_t repeat = x[0].size(1) / x[1].size(1);
    parts.push_back(
        at::scaled_dot_product_attention(part(x[0]), part(x[1]).repeat_interleave(repeat, 1),
                                         part(x[2]).repeat_interleave(repeat, 1), {}, 0.0, true)
            .squeeze(0)
            .transpose(0, 1));
  }
  return at::cat(parts);
}

TEST_F(OpsTest, CausalAttention_MatchesEachSegmentByItself) {
  for (const std::vector<std::int64_t>& cu :
       {std::vector<std::int64_t>{0, 5}, {0, 3, 6, 9}, {0, 9, 9, 11, 20, 21, 30}}) {
    const std::int64_t n = cu.back();
    const Tensors x{random({n, 4, 6}), random({n, 2, 6}), random({n, 2, 6})};
    const auto f = [&](const Tensors& y) { return causal_attention(y[0], y[1], y[2], cu); };
    expect_gradients(f, x);
    expect_same_as_float64(f, x, at::kFloat, kFloatTolerance);
    EXPECT_LE(test::relative_error(f(x), reference_attention(x, cu)), 1e-14);
  }
}

TEST_F(OpsTest, CausalAttention_OfNoRowsHasZeroGradients) {
  const Tensors x{random({0, 4, 6}), random({0, 2, 6}), random({0, 2, 6})};
  const auto f = [](const Tensors& y) { return causal_attention(y[0], y[1], y[2], {0}); };
  const auto g = test::gradients(f, x, at::zeros({0, 4, 6}, at::kDouble));
  EXPECT_EQ(g[1].sizes(), x[1].sizes());
}

TEST_F(OpsTest, DecodeAttention_IgnoresWhatIsBehindALength) {
  const at::Tensor q = random({2, 4, 6});
  at::Tensor k = random({2, 8, 2, 6}), v = random({2, 8, 2, 6});
  const at::Tensor out = decode_attention(q, k, v, {3, 7});
  k.select(0, 0).narrow(0, 3, 5).fill_(100);
  v.select(0, 0).narrow(0, 3, 5).fill_(100);
  EXPECT_LE(test::relative_error(decode_attention(q, k, v, {3, 7}), out), 1e-15);
}

TEST_F(OpsTest, Gemm_MatchesReferenceInAllForms) {
  // Small ones run on torch's product, the larger ones on oneDNN where that is faster.
  for (const auto& [m, n, k] : std::vector<std::tuple<std::int64_t, std::int64_t, std::int64_t>>{
           {3, 4, 5}, {300, 96, 128}, {257, 130, 129}}) {
    const auto f = [](const Tensors& x) { return apply_linear(x[0], x[1], x[2]); };
    const Tensors x{random({m, k}), random({n, k}), random({n})};
    expect_same_as_float64(f, x, at::kFloat, kFloatTolerance);
    const auto without_bias = [](const Tensors& y) {
      return apply_linear(y[0], y[1], std::nullopt);
    };
    expect_same_as_float64(without_bias, {x[0], x[1]}, at::kFloat, kFloatTolerance);
    const at::Tensor a = x[0].to(at::kFloat).t().contiguous().t();
    EXPECT_LE(test::relative_error(gemm_nt(a, x[1].to(at::kFloat)), at::mm(x[0], x[1].t())),
              kFloatTolerance);
  }
}

at::Tensor reference_cross_entropy(const Tensors& x, const at::Tensor& targets,
                                   const at::Tensor& weights) {
  const at::Tensor log_p = at::log_softmax(at::mm(x[0], x[1].t()), -1);
  return (log_p.gather(1, targets.unsqueeze(1)).squeeze(1) * weights).sum() * -1.0;
}

TEST_F(OpsTest, LinearCrossEntropy_MatchesReference) {
  const at::Tensor targets = at::randint(0, 37, {11}, at::kLong);
  const at::Tensor weights = at::rand({11}, at::kFloat) + 0.1;
  const Tensors x{random({11, 8}) * 2, random({37, 8})};
  for (const std::int64_t chunk_rows : {1, 4, 11, 1024}) {
    const auto f = [&](const Tensors& y) {
      return linear_cross_entropy(y[0], y[1], targets, weights, chunk_rows);
    };
    expect_gradients(f, x);
    expect_same_as_float64(f, x, at::kFloat, kFloatTolerance);
    expect_same_as_float64(f, x, at::kBFloat16, kBf16Tolerance);
    EXPECT_LE(
        test::relative_error(f(x), reference_cross_entropy(x, targets, weights.to(at::kDouble))),
        1e-14);
  }
}

TEST_F(OpsTest, LinearCrossEntropy_OfNoRowsIsZeroWithZeroGradients) {
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble}) {
    const auto f = [&](const Tensors& y) {
      return linear_cross_entropy(y[0], y[1], at::zeros({0}, at::kLong), at::zeros({0}), 16);
    };
    const Tensors x{at::zeros({0, 8}, dtype), random({37, 8}).to(dtype)};
    EXPECT_EQ(f(x).item<double>(), 0.0);
    EXPECT_FALSE(test::gradients(f, x, at::ones({}, dtype))[1].any().item<bool>());
  }
}

TEST(SegmentGroups, BatchesSimilarLengthsWithLittlePadding) {
  std::vector<std::int64_t> cu{0};
  for (const std::int64_t length : {30, 4, 29, 0, 5, 28, 2000, 4}) cu.push_back(cu.back() + length);
  const auto groups = group_segments(cu);
  ASSERT_EQ(groups.size(), 3U);
  EXPECT_EQ(groups[0].segments.size(), 1U);
  EXPECT_EQ(groups[1].segments.size(), 3U);
  EXPECT_EQ(groups[2].segments.size(), 3U);
  std::int64_t rows = 0;
  for (const auto& group : groups) {
    double used = 0;
    for (const auto& segment : group.segments) {
      rows += segment.length;
      used += static_cast<double>(segment.length * segment.length);
    }
    const double area = static_cast<double>(group.length * group.length) *
                        static_cast<double>(group.segments.size());
    EXPECT_LE(area - used, 0.25 * area);
  }
  EXPECT_EQ(rows, cu.back());
}

}  // namespace
}  // namespace gimbal
