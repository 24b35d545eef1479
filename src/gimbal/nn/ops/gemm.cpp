#include "gimbal/nn/ops/gemm.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cstdint>

#include "gimbal/base/error.h"

namespace gimbal {
namespace {

using OneDnnLinear = at::Tensor(const at::Tensor&, const at::Tensor&,
                                const std::optional<at::Tensor>&, std::string_view,
                                c10::List<std::optional<at::Scalar>>,
                                std::optional<std::string_view>);
using OneDnnHandle = c10::TypedOperatorHandle<OneDnnLinear>;

// Below this many multiply-adds the time of preparing a oneDNN kernel shows.
constexpr std::int64_t kSmallestProduct = 1 << 21;

bool mkl_lacks_kernels() {
#if defined(__x86_64__) && defined(__GNUC__)
  return __builtin_cpu_is("amd") && __builtin_cpu_supports("avx512f");
#else
  return false;
#endif
}

// torch's own entry to oneDNN's inner product for plain tensors; absent from builds without oneDNN.
const std::optional<OneDnnHandle>& onednn_linear() {
  static const std::optional<OneDnnHandle> handle = []() -> std::optional<OneDnnHandle> {
    if (!mkl_lacks_kernels()) return std::nullopt;
    const auto found = c10::Dispatcher::singleton().findSchema({"mkldnn::_linear_pointwise", ""});
    if (!found) return std::nullopt;
    return found->typed<OneDnnLinear>();
  }();
  return handle;
}

bool runs_on_onednn(const at::Tensor& a, const at::Tensor& b) {
  return a.device().is_cpu() && a.scalar_type() == at::kFloat && b.scalar_type() == at::kFloat &&
         a.size(0) * a.size(1) * b.size(0) >= kSmallestProduct && onednn_linear().has_value();
}

// dw = g^T x.
at::Tensor weight_gradient(const at::Tensor& g_MN, const at::Tensor& x, const at::Tensor& w) {
  const at::Tensor x_MK =
      x.reshape({g_MN.size(0), w.numel() / std::max<std::int64_t>(w.size(0), 1)});
  return gemm_nt(g_MN.t(), x_MK.t()).view(w.sizes());
}

// As the engine does for a leaf without a graph for its gradient.
void add_gradient(const at::Tensor& leaf, const at::Tensor& gradient) {
  at::Tensor& sum = leaf.mutable_grad();
  if (sum.defined())
    sum.add_(gradient);
  else
    sum = gradient;
}

// `deferred`: null, or where the weight's gradient is put off; w is a leaf then.
class LinearFunction : public torch::autograd::Function<LinearFunction> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x,
                            const at::Tensor& w, const std::optional<at::Tensor>& bias,
                            DeferredGradients* deferred) {
    const at::AutoDispatchBelowADInplaceOrView below;
    context->save_for_backward({x, w});
    context->saved_data["has_bias"] = bias.has_value();
    context->saved_data["deferred"] =
        static_cast<std::int64_t>(reinterpret_cast<std::intptr_t>(deferred));
    std::vector<std::int64_t> shape = x.sizes().vec();
    shape.back() = w.size(0);
    const at::Tensor w_NK = w.flatten(1);
    return gemm_nt(x.reshape({-1, w_NK.size(1)}), w_NK, bias).view(shape);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list grads) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &w = saved[1];
    auto* const deferred = reinterpret_cast<DeferredGradients*>(
        static_cast<std::intptr_t>(context->saved_data["deferred"].toInt()));
    const at::Tensor g = grads[0].reshape({-1, w.size(0)});
    at::Tensor dx, dw, db;
    if (context->needs_input_grad(0)) dx = gemm_nt(g, w.flatten(1).t()).view(x.sizes());
    if (context->needs_input_grad(1)) {
      if (deferred == nullptr)
        dw = weight_gradient(g, x, w);
      else
        // Without its graph, which would keep the block's input alive.
        deferred->tasks.push_back([x = x.detach(), w, g] {
          const at::NoGradGuard no_graph;
          add_gradient(w, weight_gradient(g, x, w));
        });
    }
    // An absent bias has no place among the inputs that can be asked for.
    if (context->saved_data["has_bias"].toBool() && context->needs_input_grad(2)) db = g.sum(0);
    return {dx, dw, db, at::Tensor()};
  }
};

}  // namespace

at::Tensor gemm_nt(const at::Tensor& a_MK, const at::Tensor& b_NK,
                   const std::optional<at::Tensor>& bias_N) {
  if (runs_on_onednn(a_MK, b_NK))
    return onednn_linear()->call(a_MK, b_NK, bias_N, "none", c10::List<std::optional<at::Scalar>>(),
                                 "");
  return bias_N ? at::linear(a_MK, b_NK, *bias_N) : at::mm(a_MK, b_NK.t());
}

bool gemm_copies_transposed(std::int64_t m, std::int64_t n, std::int64_t k) {
  return m * n * k >= kSmallestProduct && onednn_linear().has_value();
}

at::Tensor apply_linear(const at::Tensor& x, const at::Tensor& w,
                        const std::optional<at::Tensor>& bias) {
  const std::int64_t num_rows = x.numel() / std::max<std::int64_t>(x.size(-1), 1);
  const bool large = x.device().is_cpu() && x.scalar_type() == at::kFloat &&
                     w.scalar_type() == at::kFloat && num_rows * w.numel() >= kSmallestProduct &&
                     onednn_linear().has_value();
  if (large) return LinearFunction::apply(x, w, bias, static_cast<DeferredGradients*>(nullptr));
  return bias ? at::linear(x, w, *bias) : at::linear(x, w);
}

at::Tensor apply_linear(const at::Tensor& x, const Parameter& weight, const Parameter* bias) {
  const at::Tensor& w = weight.value;
  const auto b = bias != nullptr ? std::make_optional(bias->value) : std::nullopt;
  const bool put_off =
      weight.deferred != nullptr && w.requires_grad() && at::GradMode::is_enabled();
  if (!put_off) return apply_linear(x, w.dim() == 2 ? w : w.flatten(1), b);
  GIMBAL_CHECK(w.is_leaf(), "the weight gradient of ", weight.name, " cannot be put off");
  return LinearFunction::apply(x, w, b, weight.deferred);
}

}  // namespace gimbal
