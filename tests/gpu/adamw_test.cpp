// Moments in host memory against moments on the device.
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include "gimbal/optim/adamw.h"
#include "gimbal/optim/adamw_update.h"
#include "gpu/cuda_device.h"

namespace gimbal {
namespace {

using namespace gpu_tests;  // NOLINT: a test's own helpers

using GpuAdamW = Gpu;

std::vector<FlatShard> shards_on(const at::Device& device) {
  std::vector<FlatShard> shards(2);
  for (std::size_t i = 0; i < shards.size(); ++i) {
    const at::Tensor x = at::arange(5003 - 100 * static_cast<std::int64_t>(i), at::kFloat);
    shards[i].values = x.sin().to(device);
    shards[i].gradients = x.cos().to(device);
    shards[i].group = static_cast<int>(i);
  }
  return shards;
}

TEST_F(GpuAdamW, OffloadedMomentsGiveTheSameBits) {
  std::vector<FlatShard> plain = shards_on(kCuda), offloaded = shards_on(kCuda);
  AdamW a(plain, {}), b(offloaded, {.offload = true});
  EXPECT_TRUE(b.states()[0].first_moment.is_cpu());
  EXPECT_TRUE(b.states()[0].first_moment.is_pinned());
  for (int step = 0; step < 4; ++step) {
    const std::vector<GroupRates> rates{{0.01, 0.1}, {0.02, 0.0}};
    a.step(rates);
    b.step(rates);
    for (std::size_t i = 0; i < plain.size(); ++i) {
      EXPECT_TRUE(at::equal(plain[i].values, offloaded[i].values)) << step;
      EXPECT_TRUE(at::equal(a.states()[i].first_moment.cpu(), b.states()[i].first_moment)) << step;
      EXPECT_TRUE(at::equal(a.states()[i].second_moment.cpu(), b.states()[i].second_moment));
      plain[i].gradients.mul_(-1.5);
      offloaded[i].gradients.mul_(-1.5);
    }
  }
}

TEST_F(GpuAdamW, ManyChunksGiveTheSameBits) {
  const std::vector<FlatShard> whole = shards_on(kCuda), chunked = shards_on(kCuda);
  const auto moments = [](const FlatShard& shard, bool host) {
    return host ? at::zeros(shard.values.sizes(),
                            at::TensorOptions().dtype(at::kFloat).pinned_memory(true))
                : at::zeros_like(shard.values);
  };
  const AdamWTensors a{{whole[0].values},
                       {whole[0].gradients},
                       {moments(whole[0], false)},
                       {moments(whole[0], false)}},
      b{{chunked[0].values},
        {chunked[0].gradients},
        {moments(chunked[0], true)},
        {moments(chunked[0], true)}};
  for (int step = 1; step <= 3; ++step) {
    update_together(a, step, {0.01, 0.1}, {});
    update_in_chunks(b, step, {0.01, 0.1}, {}, /*chunk=*/48);
  }
  EXPECT_TRUE(at::equal(a.values[0], b.values[0]));
}

/// The update is made of roundings of a handful of operations.
TEST_F(GpuAdamW, EqualsTheCpu) {
  std::vector<FlatShard> cpu = shards_on(at::kCPU), cuda = shards_on(kCuda);
  AdamW a(cpu, {}), b(cuda, {});
  for (int step = 0; step < 3; ++step) {
    a.step({{0.01, 0.1}, {0.02, 0.0}});
    b.step({{0.01, 0.1}, {0.02, 0.0}});
  }
  for (std::size_t i = 0; i < cpu.size(); ++i)
    expect_near(cuda[i].values, cpu[i].values, 16, eps_of(at::kFloat), "values");
}

}  // namespace
}  // namespace gimbal
