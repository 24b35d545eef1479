#include "gimbal/nn/attention/rotary.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include "gimbal/nn/ops/fused.h"

namespace gimbal {
namespace {

struct RotaryShape {
  std::int64_t num_heads, head_dim;
};

// `sign` is +1 to turn forward and -1 to turn back.
template <typename T>
GIMBAL_INLINE void rotate_rows(std::int64_t begin, std::int64_t end, const RotaryShape& shape,
                               const T* x, const float* cos, const float* sin,
                               const std::int64_t* rows, float sign, T* y) {
  const std::int64_t half = shape.head_dim / 2;
  for (std::int64_t t = begin; t < end; ++t) {
    const float *c = cos + rows[t] * half, *s = sin + rows[t] * half;
    for (std::int64_t n = 0; n < shape.num_heads; ++n) {
      const T* a = x + (t * shape.num_heads + n) * shape.head_dim;
      T* b = y + (t * shape.num_heads + n) * shape.head_dim;
      for (std::int64_t h = 0; h < half; ++h) {
        const float first = simd::load(a + h), second = simd::load(a + half + h),
                    turn = sign * s[h];
        simd::store(b + h, first * c[h] - second * turn);
        simd::store(b + half + h, second * c[h] + first * turn);
      }
    }
  }
}

GIMBAL_SIMD_CLONES void rotate_range(std::int64_t begin, std::int64_t end, const RotaryShape& shape,
                                     const float* x, const float* cos, const float* sin,
                                     const std::int64_t* rows, float sign, float* y) {
  rotate_rows(begin, end, shape, x, cos, sin, rows, sign, y);
}
GIMBAL_SIMD_CLONES void rotate_range(std::int64_t begin, std::int64_t end, const RotaryShape& shape,
                                     const simd::Bf16* x, const float* cos, const float* sin,
                                     const std::int64_t* rows, float sign, simd::Bf16* y) {
  rotate_rows(begin, end, shape, x, cos, sin, rows, sign, y);
}

at::Tensor rotate_fused(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin,
                        const at::Tensor& rows, float sign) {
  at::Tensor y = at::empty_like(x, at::MemoryFormat::Contiguous);
  const RotaryShape shape{x.size(1), x.size(2)};
  dispatch_fused(x, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    at::parallel_for(0, x.size(0), kRowsPerTask, [&](std::int64_t begin, std::int64_t end) {
      rotate_range(begin, end, shape, fused_data<T>(x), fused_data<float>(cos),
                   fused_data<float>(sin), fused_data<std::int64_t>(rows), sign, fused_data<T>(y));
    });
  });
  return y;
}

class RotaryFunction : public torch::autograd::Function<RotaryFunction> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x,
                            const at::Tensor& cos, const at::Tensor& sin, const at::Tensor& rows) {
    const at::AutoDispatchBelowADInplaceOrView below;
    context->save_for_backward({cos, sin, rows});
    return rotate_fused(x.contiguous(), cos, sin, rows, 1.0f);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list grads) {
    const auto saved = context->get_saved_variables();
    // A rotation's transpose turns back.
    return {rotate_fused(grads[0].contiguous(), saved[0], saved[1], saved[2], -1.0f), at::Tensor(),
            at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor rotate(const at::Tensor& x_TNH, const RotaryAngles& angles) {
  if (has_fused_loops(x_TNH) && angles.cos_PH.scalar_type() == at::kFloat)
    return RotaryFunction::apply(x_TNH, angles.cos_PH, angles.sin_PH, angles.rows_T);
  const std::int64_t half = x_TNH.size(2) / 2;
  const at::Tensor cos =
      angles.cos_PH.index_select(0, angles.rows_T).unsqueeze(1).to(x_TNH.scalar_type());
  const at::Tensor sin =
      angles.sin_PH.index_select(0, angles.rows_T).unsqueeze(1).to(x_TNH.scalar_type());
  const at::Tensor first = x_TNH.narrow(2, 0, half), second = x_TNH.narrow(2, half, half);
  return at::cat({first * cos - second * sin, second * cos + first * sin}, 2);
}

}  // namespace gimbal
