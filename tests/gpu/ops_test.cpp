// Operations with code of their own for the CPU against what runs on CUDA.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>

#include <vector>

#include "gimbal/nn/attention/attention.h"
#include "gimbal/nn/loss/linear_cross_entropy.h"
#include "gpu/cuda_device.h"

namespace gimbal {
namespace {

using namespace gpu_tests;  // NOLINT: a test's own helpers

using GpuOps = Gpu;

// Sums of a few hundred products in another order.
constexpr double kOpsC = 32;

at::Tensor numbers(std::vector<std::int64_t> shape, std::uint64_t seed, at::ScalarType dtype) {
  return at::randn(shape, at::make_generator<at::CPUGeneratorImpl>(seed),
                   at::TensorOptions().dtype(at::kDouble))
      .to(dtype);
}

TEST_F(GpuOps, LinearCrossEntropyIsThatOfTheCpu) {
  const at::Tensor targets = at::randint(300, {70}, at::TensorOptions().dtype(at::kLong));
  const at::Tensor weights = at::rand({70});
  for (const at::ScalarType dtype : {at::kDouble, at::kFloat, at::kBFloat16}) {
    const at::Tensor x = numbers({70, 48}, 1, dtype), w = numbers({300, 48}, 2, dtype) * 0.2;
    at::Tensor loss[2], dx[2], dw[2];
    for (const int on_cuda : {0, 1}) {
      const at::Device device = on_cuda == 1 ? kCuda : at::Device(at::kCPU);
      const at::Tensor x_leaf = leaf_on(x, device), w_leaf = leaf_on(w, device);
      // Chunks of 32, 32 and 6 rows.
      loss[on_cuda] = linear_cross_entropy(x_leaf, w_leaf, targets.to(device), weights.to(device),
                                           /*chunk_rows=*/32);
      loss[on_cuda].backward();
      EXPECT_EQ(loss[on_cuda].device().type(), device.type());
      loss[on_cuda] = loss[on_cuda].detach();
      dx[on_cuda] = x_leaf.grad();
      dw[on_cuda] = w_leaf.grad();
    }
    const std::string name = c10::toString(dtype);
    expect_near(loss[1], loss[0], kOpsC, eps_of(dtype), "loss in " + name);
    expect_near(dx[1], dx[0], kOpsC, eps_of(dtype), "gradient of x in " + name);
    expect_near(dw[1], dw[0], kOpsC, eps_of(dtype), "gradient of w in " + name);
  }
}

TEST_F(GpuOps, CausalAttentionIsThatOfTheCpu) {
  const std::vector<std::int64_t> cu_seqlens{0, 37, 38, 70, 135};
  for (const at::ScalarType dtype : {at::kDouble, at::kFloat, at::kBFloat16}) {
    std::vector<at::Tensor> results[2];
    for (const int on_cuda : {0, 1}) {
      const at::Device device = on_cuda == 1 ? kCuda : at::Device(at::kCPU);
      const at::Tensor q = leaf_on(numbers({135, 6, 16}, 1, dtype), device),
                       k = leaf_on(numbers({135, 2, 16}, 2, dtype), device),
                       v = leaf_on(numbers({135, 2, 16}, 3, dtype), device);
      const at::Tensor out = causal_attention(q, k, v, cu_seqlens);
      out.backward(numbers({135, 6, 16}, 4, dtype).to(device));
      results[on_cuda] = {out.detach(), q.grad(), k.grad(), v.grad()};
    }
    for (std::size_t i = 0; i < 4; ++i) {
      expect_near(results[1][i], results[0][i], kOpsC, eps_of(dtype),
                  std::string(c10::toString(dtype)) + ", tensor " + std::to_string(i));
    }
  }
}

TEST_F(GpuOps, TileAttentionIsThatOfTheCpu) {
  for (const at::ScalarType dtype : {at::kDouble, at::kFloat, at::kBFloat16}) {
    std::vector<at::Tensor> results[2];
    for (const int on_cuda : {0, 1}) {
      const at::Device device = on_cuda == 1 ? kCuda : at::Device(at::kCPU);
      const at::Tensor q = leaf_on(numbers({3, 50, 4, 16}, 5, dtype), device),
                       k = leaf_on(numbers({3, 50, 4, 16}, 6, dtype), device),
                       v = leaf_on(numbers({3, 50, 4, 16}, 7, dtype), device);
      const at::Tensor out = tile_attention(q, k, v);
      out.backward(numbers({3, 50, 4, 16}, 8, dtype).to(device));
      results[on_cuda] = {out.detach(), q.grad(), k.grad(), v.grad()};
    }
    for (std::size_t i = 0; i < 4; ++i) {
      expect_near(results[1][i], results[0][i], kOpsC, eps_of(dtype),
                  std::string(c10::toString(dtype)) + ", tensor " + std::to_string(i));
    }
  }
}

}  // namespace
}  // namespace gimbal
