#include "gimbal/optim/adamw.h"

#include <ATen/Parallel.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

#include <cmath>

#include "gimbal/base/error.h"
#include "gimbal/optim/adamw_update.h"

namespace gimbal {
namespace {

/// The update as the paper writes it (Loshchilov and Hutter 2019, algorithm 2), one number at a
/// time.
struct Reference {
  double value, first = 0, second = 0;
  void step(double gradient, int t, const GroupRates& rate, const AdamWOptions& o) {
    value -= rate.lr * rate.weight_decay * value;
    first = o.beta1 * first + (1 - o.beta1) * gradient;
    second = o.beta2 * second + (1 - o.beta2) * gradient * gradient;
    const double m = first / (1 - std::pow(o.beta1, t));
    const double v = second / (1 - std::pow(o.beta2, t));
    value -= rate.lr * m / (std::sqrt(v) + o.eps);
  }
};

at::Tensor vector_of(const std::vector<double>& values, at::ScalarType dtype) {
  return at::tensor(values, at::kDouble).to(dtype);
}

std::vector<FlatShard> make_shards(at::ScalarType dtype) {
  std::vector<FlatShard> shards(3);
  shards[0].values = vector_of({1.0, -2.0, 0.5}, dtype);
  shards[0].gradients = vector_of({0.1, 0.2, -0.3}, dtype);
  shards[1].group = 1;
  shards[1].values = vector_of({3.0}, dtype);
  shards[1].gradients = vector_of({-1.0}, dtype);
  shards[2].values = vector_of({7.0}, dtype);  // frozen
  return shards;
}

void expect_equals_reference(at::ScalarType dtype, double tolerance) {
  at::set_num_threads(1);
  std::vector<FlatShard> shards = make_shards(dtype);
  const AdamWOptions options{0.8, 0.95, 1e-6};
  const std::vector<GroupRates> rates{{0.01, 0.1}, {0.002, 0.0}};
  std::vector<Reference> expected{{1.0}, {-2.0}, {0.5}, {3.0}};
  AdamW adamw(shards, options);
  for (int t = 1; t <= 5; ++t) {
    adamw.step(rates);
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const FlatShard& shard = shards[i < 3 ? 0 : 1];
      const auto index = static_cast<std::int64_t>(i < 3 ? i : 0);
      expected[i].step(shard.gradients[index].item<double>(), t, rates[i < 3 ? 0 : 1], options);
      EXPECT_NEAR(shard.values[index].item<double>(), expected[i].value, tolerance) << t;
    }
    shards[0].gradients.mul_(-1.5);
  }
  EXPECT_EQ(adamw.step_count(), 5);
  EXPECT_NEAR(adamw.states()[1].second_moment.item<double>(), expected[3].second, tolerance);
  EXPECT_EQ(shards[2].values.item<double>(), 7.0);
  EXPECT_FALSE(adamw.states()[2].first_moment.defined());
}

// Values of size 1 to 3: a handful of roundings each step.
TEST(AdamW, EqualsThePaperInFloat32) { expect_equals_reference(at::kFloat, 20 * 1.2e-7); }
TEST(AdamW, EqualsThePaperInFloat64) { expect_equals_reference(at::kDouble, 1e-13); }

TEST(AdamW, ResumesBitForBit) {
  std::vector<FlatShard> straight = make_shards(at::kFloat);
  std::vector<FlatShard> resumed = make_shards(at::kFloat);
  const std::vector<GroupRates> rates{{0.01, 0.1}, {0.02, 0.0}};
  AdamW a(straight, {});
  a.step(rates);
  a.step(rates);
  AdamW before(resumed, {});
  before.step(rates);
  AdamW after(resumed, {});
  after.states() = before.states();
  after.set_step_count(before.step_count());
  after.step(rates);
  EXPECT_TRUE(at::equal(straight[0].values, resumed[0].values));
}

AdamWTensors make_tensors(std::int64_t numel) {
  const at::Tensor values = at::arange(numel, at::kFloat).sin();
  return {{values, values.narrow(0, 0, 7).clone()},
          {values.cos(), values.narrow(0, 2, 7).clone()},
          {at::zeros_like(values), at::zeros({7}, at::kFloat)},
          {at::zeros_like(values), at::zeros({7}, at::kFloat)}};
}

// What offloading does on a device: here the device is the host.
TEST(AdamW, ChunksGiveTheSameBits) {
  for (const std::int64_t chunk : {16, 48, 1000, 4096}) {
    const AdamWTensors whole = make_tensors(1003), chunked = make_tensors(1003);
    for (int step = 1; step <= 3; ++step) {
      update_together(whole, step, {0.01, 0.1}, {});
      update_in_chunks(chunked, step, {0.01, 0.1}, {}, chunk);
    }
    for (std::size_t i = 0; i < whole.values.size(); ++i) {
      EXPECT_TRUE(at::equal(whole.values[i], chunked.values[i])) << chunk;
      EXPECT_TRUE(at::equal(whole.first_moments[i], chunked.first_moments[i]));
      EXPECT_TRUE(at::equal(whole.second_moments[i], chunked.second_moments[i]));
      EXPECT_GT(whole.second_moments[i].max().item<float>(), 0.0F);
    }
  }
}

TEST(AdamW, OffloadingFromTheHostChangesNothing) {
  std::vector<FlatShard> plain = make_shards(at::kFloat), offloaded = make_shards(at::kFloat);
  AdamW a(plain, {}), b(offloaded, {.offload = true});
  const std::vector<GroupRates> rates{{0.01, 0.1}, {0.02, 0.0}};
  a.step(rates);
  b.step(rates);
  EXPECT_TRUE(at::equal(plain[0].values, offloaded[0].values));
  EXPECT_TRUE(at::equal(a.states()[0].first_moment, b.states()[0].first_moment));
  EXPECT_FALSE(b.states()[0].first_moment.is_pinned());
}

TEST(AdamW, ShardsMayBeEmpty) {
  std::vector<FlatShard> shards = make_shards(at::kFloat);
  shards[0].values = at::zeros({0}, at::kFloat);
  shards[0].gradients = at::zeros({0}, at::kFloat);
  AdamW adamw(shards, {});
  adamw.step({{0.01, 0.1}, {0.01, 0.0}});
  EXPECT_EQ(adamw.states()[0].first_moment.numel(), 0);
  EXPECT_NEAR(shards[1].values.item<double>(), 3.01, 1e-6);
}

TEST(AdamW, RefusesAGroupWithoutRates) {
  std::vector<FlatShard> shards = make_shards(at::kFloat);
  AdamW adamw(shards, {});
  EXPECT_THROW(adamw.step({{0.1, 0.0}}), InternalError);
}

}  // namespace
}  // namespace gimbal
