#include "gimbal/nn/linear_cross_entropy.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>

#include "gimbal/base/error.h"
#include "gimbal/nn/gemm.h"
#include "gimbal/nn/simd.h"
#include "gimbal/nn/softmax_row.h"

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

// The same with ATen operators, for other dtypes and devices. Returns the loss and the gradient of
// the logits.
std::pair<at::Tensor, at::Tensor> chunk_loss_portable(const at::Tensor& logits,
                                                      const at::Tensor& targets,
                                                      const at::Tensor& weights) {
  const at::Tensor log_p = at::log_softmax(logits, -1);
  const at::Tensor columns = targets.unsqueeze(1),
                   w = weights.to(logits.scalar_type()).unsqueeze(1);
  const at::Tensor loss = (log_p.gather(1, columns) * w).sum() * -1.0;
  at::Tensor gradient = log_p.exp() * w;
  gradient.scatter_add_(1, columns, w * -1.0);
  return {loss, gradient};
}

class LinearCrossEntropyFunction : public torch::autograd::Function<LinearCrossEntropyFunction> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x_in,
                            const at::Tensor& w, const at::Tensor& targets,
                            const at::Tensor& weights, std::int64_t chunk_rows,
                            bool wants_x_gradient, bool wants_w_gradient) {
    const at::AutoDispatchBelowADInplaceOrView below;
    const bool wants_gradient = wants_x_gradient || wants_w_gradient;
    const at::Tensor x = x_in.contiguous();
    const at::ScalarType wide = x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
    const bool fused = x.device().is_cpu() && wide == at::kFloat;
    at::Tensor loss = at::zeros({}, x.options().dtype(wide));
    at::Tensor dx = wants_x_gradient ? at::empty_like(x) : at::Tensor();
    at::Tensor dw = wants_w_gradient ? at::zeros(w.sizes(), w.options().dtype(wide)) : at::Tensor();
    double fused_loss = 0;
    for (std::int64_t begin = 0; begin < x.size(0); begin += chunk_rows) {
      const std::int64_t rows = std::min(chunk_rows, x.size(0) - begin);
      const at::Tensor part = x.narrow(0, begin, rows);
      at::Tensor logits = gemm_nt(part, w).to(wide);
      const at::Tensor target = targets.narrow(0, begin, rows),
                       weight = weights.narrow(0, begin, rows);
      if (fused) {
        fused_loss += chunk_loss_cpu(logits, target.contiguous(),
                                     weight.to(at::kFloat).contiguous(), wants_gradient);
      } else {
        const auto [sum, gradient] = chunk_loss_portable(logits, target, weight);
        loss += sum;
        logits = gradient;
      }
      const at::Tensor d_logits = logits.to(x.scalar_type());
      if (wants_x_gradient) dx.narrow(0, begin, rows).copy_(gemm_nt(d_logits, w.t()));
      if (wants_w_gradient) add_product(dw, d_logits, part);
    }
    if (fused) loss.fill_(fused_loss);
    // No operation uses these tensors again, so they may be handed out as the gradients themselves.
    context->saved_data["dx"] = dx;
    context->saved_data["dw"] = dw.defined() ? dw.to(w.scalar_type()) : dw;
    return loss;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list grads) {
    const auto scaled = [&](const char* name) {
      const c10::IValue& value = context->saved_data[name];
      if (!value.isTensor() || !value.toTensor().defined()) return at::Tensor();
      const at::Tensor& gradient = value.toTensor();
      return gradient * grads[0].to(gradient.scalar_type());
    };
    return {scaled("dx"), scaled("dw"), {}, {}, {}, {}, {}};
  }

 private:
  // Products of bfloat16 chunks are added up in float32.
  static void add_product(at::Tensor& dw, const at::Tensor& d_logits, const at::Tensor& x) {
    dw.add_(gemm_nt(d_logits.t(), x.t()));
  }
};

}  // namespace

at::Tensor linear_cross_entropy(const at::Tensor& x_QD, const at::Tensor& w_VD,
                                const at::Tensor& targets_Q, const at::Tensor& weights_Q,
                                std::int64_t chunk_rows) {
  GIMBAL_CHECK(chunk_rows > 0, "chunk_rows: ", chunk_rows);
  GIMBAL_CHECK_EQ(x_QD.size(0), targets_Q.size(0));
  const bool grad = at::GradMode::is_enabled();
  return LinearCrossEntropyFunction::apply(x_QD, w_VD, targets_Q, weights_Q, chunk_rows,
                                           grad && x_QD.requires_grad(),
                                           grad && w_VD.requires_grad());
}

}  // namespace gimbal
