#include "gimbal/optim/clip.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/zeros.h>

#include "gimbal/base/error.h"

namespace gimbal {
namespace {

std::vector<at::Tensor> defined_gradients(const std::vector<FlatShard>& shards) {
  std::vector<at::Tensor> gradients;
  for (const FlatShard& shard : shards) {
    if (shard.gradients.defined() && shard.gradients.numel() > 0)
      gradients.push_back(shard.gradients);
  }
  return gradients;
}

/// A float32 sum over ten million squares is off by 3e-4: each chunk is summed in the gradient's
/// dtype, the chunks in float64.
void add_chunk_norms(const at::Tensor& gradient, std::vector<at::Tensor>& norms) {
  constexpr std::int64_t kChunk = 4096;
  const std::int64_t num_chunks = gradient.numel() / kChunk;
  const std::int64_t head = num_chunks * kChunk;
  const auto norm_of_rows = [](const at::Tensor& rows) {
    return at::linalg_vector_norm(rows, 2, at::IntArrayRef({1})).to(at::kDouble);
  };
  if (num_chunks > 0) {
    norms.push_back(norm_of_rows(gradient.narrow(0, 0, head).view({num_chunks, kChunk})));
  }
  if (head < gradient.numel()) {
    norms.push_back(norm_of_rows(gradient.narrow(0, head, gradient.numel() - head).unsqueeze(0)));
  }
}

}  // namespace

at::Tensor global_norm(const std::vector<FlatShard>& shards) {
  const std::vector<at::Tensor> gradients = defined_gradients(shards);
  if (gradients.empty()) {
    const at::Device device = shards.empty() ? at::Device(at::kCPU) : shards[0].values.device();
    return at::zeros({}, at::TensorOptions().dtype(at::kDouble).device(device));
  }
  std::vector<at::Tensor> norms;
  for (const at::Tensor& gradient : gradients) add_chunk_norms(gradient, norms);
  return at::linalg_vector_norm(at::cat(norms));
}

at::Tensor global_norm(const std::vector<FlatShard>& shards, Comm& world) {
  if (world.size() == 1) return global_norm(shards);
  std::vector<FlatShard> counted;
  for (const FlatShard& shard : shards) {
    if (shard.replica == 0) counted.push_back(shard);
  }
  const at::Tensor sum = global_norm(counted).square().to(world.device());
  world.all_reduce_sum(sum, "gradient norm")->wait();
  return sum.sqrt();
}

void clip_gradients(std::vector<FlatShard>& shards, const at::Tensor& norm, double max_norm) {
  GIMBAL_CHECK(max_norm > 0, "max_norm ", max_norm);
  const std::vector<at::Tensor> gradients = defined_gradients(shards);
  if (gradients.empty()) return;
  const at::Tensor factor = ((norm + 1e-6).reciprocal() * max_norm).clamp_max(1.0);
  at::_foreach_mul_(gradients, factor.to(gradients[0].scalar_type()));
}

}  // namespace gimbal
