#include "gimbal/nn/loss/linear_cross_entropy.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/zeros.h>

#include <cmath>
#include <vector>

#include "gimbal/nn/loss/chunked_loss.h"
#include "gimbal/nn/loss/softmax_row.h"
#include "gimbal/nn/ops/simd.h"

namespace gimbal {
namespace {

// Loss of one row of logits; with `keep_gradient`, logits become weight * (softmax - one-hot).
GIMBAL_SIMD_CLONES double cross_entropy_row(float* logits, std::int64_t size, std::int64_t target,
                                            float weight, bool keep_gradient) {
  const float target_logit = logits[target];
  const auto [largest, sum] = start_softmax_row(logits, size);
  if (keep_gradient) {
    const float scale = weight / sum;
    for (std::int64_t i = 0; i < size; ++i) logits[i] *= scale;
    logits[target] -= weight;
  }
  return static_cast<double>(weight) *
         (static_cast<double>(largest) + std::log(static_cast<double>(sum)) -
          static_cast<double>(target_logit));
}

// Sum of the rows' losses; logits [rows, V] float32 are overwritten.
double chunk_loss_cpu(const at::Tensor& logits, const at::Tensor& targets,
                      const at::Tensor& weights, bool keep_gradient) {
  const std::int64_t size = logits.size(1);
  auto* values = logits.mutable_data_ptr<float>();
  const auto* target = targets.const_data_ptr<std::int64_t>();
  const auto* weight = weights.const_data_ptr<float>();
  std::vector<double> losses(static_cast<std::size_t>(logits.size(0)));
  at::parallel_for(0, logits.size(0), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t q = begin; q < end; ++q)
      losses[static_cast<std::size_t>(q)] =
          cross_entropy_row(values + q * size, size, target[q], weight[q], keep_gradient);
  });
  double sum = 0;
  for (const double loss : losses) sum += loss;
  return sum;
}

// Float32 on the CPU, added up in float64.
class FusedChunkLoss : public ChunkLoss {
 public:
  explicit FusedChunkLoss(const at::TensorOptions& options) : options_(options) {}
  void add(at::Tensor& logits, const at::Tensor& targets, const at::Tensor& weights,
           bool wants_gradient) override {
    sum_ += chunk_loss_cpu(logits, targets.contiguous(), weights.to(at::kFloat).contiguous(),
                           wants_gradient);
  }
  at::Tensor sum() const override { return at::full({}, sum_, options_); }

 private:
  at::TensorOptions options_;
  double sum_ = 0;
};

// The same with ATen operators, for other dtypes and devices.
class PortableChunkLoss : public ChunkLoss {
 public:
  explicit PortableChunkLoss(const at::TensorOptions& options) : sum_(at::zeros({}, options)) {}
  void add(at::Tensor& logits, const at::Tensor& targets, const at::Tensor& weights,
           bool wants_gradient) override {
    const at::Tensor log_p = at::log_softmax(logits, -1);
    const at::Tensor columns = targets.unsqueeze(1),
                     w = weights.to(logits.scalar_type()).unsqueeze(1);
    sum_ += (log_p.gather(1, columns) * w).sum() * -1.0;
    if (!wants_gradient) return;
    logits = log_p.exp() * w;
    logits.scatter_add_(1, columns, w * -1.0);
  }
  at::Tensor sum() const override { return sum_; }

 private:
  at::Tensor sum_;
};

}  // namespace

at::Tensor linear_cross_entropy(const at::Tensor& x_QD, const at::Tensor& w_VD,
                                const at::Tensor& targets_Q, const at::Tensor& weights_Q,
                                std::int64_t chunk_rows) {
  const bool wide = x_QD.scalar_type() == at::kDouble;
  const at::TensorOptions options = x_QD.options().dtype(wide ? at::kDouble : at::kFloat);
  if (x_QD.device().is_cpu() && !wide) {
    FusedChunkLoss loss(options);
    return chunked_linear_loss(x_QD, w_VD, targets_Q, weights_Q, chunk_rows, loss);
  }
  PortableChunkLoss loss(options);
  return chunked_linear_loss(x_QD, w_VD, targets_Q, weights_Q, chunk_rows, loss);
}

}  // namespace gimbal
