#include "gimbal/nn/ops/swiglu.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/silu.h>
#include <torch/csrc/autograd/custom_function.h>

#include "gimbal/nn/ops/fused.h"

namespace gimbal {
namespace {

constexpr std::int64_t kSwigluValuesPerTask = 32768;

template <typename T>
GIMBAL_INLINE void swiglu_forward_values(std::int64_t n, const T* gate, const T* up, T* y) {
  for (std::int64_t i = 0; i < n; ++i) {
    const float g = simd::load(gate + i);
    simd::store(y + i, g / (1.0f + simd::exp(-g)) * simd::load(up + i));
  }
}

template <typename T>
GIMBAL_INLINE void swiglu_backward_values(std::int64_t n, const T* dy, const T* gate, const T* up,
                                          T* dgate, T* dup) {
  for (std::int64_t i = 0; i < n; ++i) {
    const float g = simd::load(gate + i), d = simd::load(dy + i);
    const float s = 1.0f / (1.0f + simd::exp(-g));
    simd::store(dup + i, d * g * s);
    simd::store(dgate + i, d * simd::load(up + i) * s * (1.0f + g * (1.0f - s)));
  }
}

GIMBAL_SIMD_CLONES void swiglu_forward(std::int64_t n, const float* gate, const float* up,
                                       float* y) {
  swiglu_forward_values(n, gate, up, y);
}
GIMBAL_SIMD_CLONES void swiglu_forward(std::int64_t n, const simd::Bf16* gate, const simd::Bf16* up,
                                       simd::Bf16* y) {
  swiglu_forward_values(n, gate, up, y);
}
GIMBAL_SIMD_CLONES void swiglu_backward(std::int64_t n, const float* dy, const float* gate,
                                        const float* up, float* dgate, float* dup) {
  swiglu_backward_values(n, dy, gate, up, dgate, dup);
}
GIMBAL_SIMD_CLONES void swiglu_backward(std::int64_t n, const simd::Bf16* dy,
                                        const simd::Bf16* gate, const simd::Bf16* up,
                                        simd::Bf16* dgate, simd::Bf16* dup) {
  swiglu_backward_values(n, dy, gate, up, dgate, dup);
}

class SwigluFunction : public torch::autograd::Function<SwigluFunction> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& gate_in,
                            const at::Tensor& up_in) {
    const at::AutoDispatchBelowADInplaceOrView below;
    const at::Tensor gate = gate_in.contiguous(), up = up_in.contiguous();
    at::Tensor y = at::empty_like(gate);
    dispatch_fused(gate, [&](auto* type) {
      using T = std::remove_pointer_t<decltype(type)>;
      at::parallel_for(0, gate.numel(), kSwigluValuesPerTask,
                       [&](std::int64_t begin, std::int64_t end) {
                         swiglu_forward(end - begin, fused_data<T>(gate) + begin,
                                        fused_data<T>(up) + begin, fused_data<T>(y) + begin);
                       });
    });
    context->save_for_backward({gate, up});
    return y;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list grads) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &gate = saved[0], &up = saved[1];
    const at::Tensor dy = grads[0].contiguous();
    at::Tensor dgate = at::empty_like(gate), dup = at::empty_like(up);
    dispatch_fused(gate, [&](auto* type) {
      using T = std::remove_pointer_t<decltype(type)>;
      at::parallel_for(0, gate.numel(), kSwigluValuesPerTask,
                       [&](std::int64_t begin, std::int64_t end) {
                         swiglu_backward(end - begin, fused_data<T>(dy) + begin,
                                         fused_data<T>(gate) + begin, fused_data<T>(up) + begin,
                                         fused_data<T>(dgate) + begin, fused_data<T>(dup) + begin);
                       });
    });
    return {dgate, dup};
  }
};

}  // namespace

at::Tensor silu_mul(const at::Tensor& gate, const at::Tensor& up) {
  if (has_fused_loops(gate) && gate.scalar_type() == up.scalar_type())
    return SwigluFunction::apply(gate, up);
  return at::silu(gate) * up;
}

}  // namespace gimbal
