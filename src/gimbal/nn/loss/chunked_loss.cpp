#include "gimbal/nn/loss/chunked_loss.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "gimbal/base/error.h"
#include "gimbal/nn/ops/gemm.h"

namespace gimbal {
namespace {

class ChunkedLossFunction : public torch::autograd::Function<ChunkedLossFunction> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x_in,
                            const at::Tensor& w, const at::Tensor& targets,
                            const at::Tensor& weights, std::int64_t chunk_rows, ChunkLoss* loss,
                            bool wants_x_gradient, bool wants_w_gradient) {
    const at::AutoDispatchBelowADInplaceOrView below;
    const bool wants_gradient = wants_x_gradient || wants_w_gradient;
    const at::Tensor x = x_in.contiguous();
    const at::ScalarType wide = x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
    at::Tensor dx = wants_x_gradient ? at::empty_like(x) : at::Tensor();
    at::Tensor dw = wants_w_gradient ? at::zeros(w.sizes(), w.options().dtype(wide)) : at::Tensor();
    for (std::int64_t begin = 0; begin < x.size(0); begin += chunk_rows) {
      const std::int64_t rows = std::min(chunk_rows, x.size(0) - begin);
      const at::Tensor part = x.narrow(0, begin, rows);
      at::Tensor logits = gemm_nt(part, w).to(wide);
      loss->add(logits, targets.narrow(0, begin, rows), weights.narrow(0, begin, rows),
                wants_gradient);
      if (!wants_gradient) continue;
      const at::Tensor d_logits = logits.to(x.scalar_type());
      if (wants_x_gradient) dx.narrow(0, begin, rows).copy_(gemm_nt(d_logits, w.t()));
      // Products of bfloat16 chunks are added up in float32.
      if (wants_w_gradient) dw.add_(gemm_nt(d_logits.t(), part.t()));
    }
    // No operation uses these tensors again, so they may be handed out as the gradients themselves.
    context->saved_data["dx"] = dx;
    context->saved_data["dw"] = dw.defined() ? dw.to(w.scalar_type()) : dw;
    return loss->sum();
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list grads) {
    const auto scaled = [&](const char* name) {
      const c10::IValue& value = context->saved_data[name];
      if (!value.isTensor() || !value.toTensor().defined()) return at::Tensor();
      const at::Tensor& gradient = value.toTensor();
      return gradient * grads[0].to(gradient.scalar_type());
    };
    return {scaled("dx"), scaled("dw"), {}, {}, {}, {}, {}, {}};
  }
};

}  // namespace

at::Tensor chunked_linear_loss(const at::Tensor& x_QD, const at::Tensor& w_VD,
                               const at::Tensor& targets_Q, const at::Tensor& weights_Q,
                               std::int64_t chunk_rows, ChunkLoss& loss) {
  GIMBAL_CHECK(chunk_rows > 0, "chunk_rows: ", chunk_rows);
  GIMBAL_CHECK_EQ(x_QD.size(0), targets_Q.size(0));
  const bool grad = at::GradMode::is_enabled();
  return ChunkedLossFunction::apply(x_QD, w_VD, targets_Q, weights_Q, chunk_rows, &loss,
                                    grad && x_QD.requires_grad(), grad && w_VD.requires_grad());
}

}  // namespace gimbal
