#include "gimbal/nn/ops/rms_norm.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/mean.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>

#include "gimbal/nn/ops/fused.h"

namespace gimbal {
namespace {

struct RmsRows {
  std::int64_t begin, end, width;
};

template <typename T>
GIMBAL_INLINE void rms_forward_rows(const RmsRows& rows, const T* x, const T* w, T* y, float* scale,
                                    float eps) {
  const std::int64_t width = rows.width;
  for (std::int64_t r = rows.begin; r < rows.end; ++r) {
    const T* xr = x + r * width;
    T* yr = y + r * width;
    float lanes[simd::kLanes] = {};
    std::int64_t i = 0;
    for (; i + simd::kLanes <= width; i += simd::kLanes)
      for (int j = 0; j < simd::kLanes; ++j) {
        const float v = simd::load(xr + i + j);
        lanes[j] += v * v;
      }
    float sum = 0;
    for (; i < width; ++i) sum += simd::load(xr + i) * simd::load(xr + i);
    for (const float lane : lanes) sum += lane;
    const float s = 1.0f / std::sqrt(sum / static_cast<float>(width) + eps);
    scale[r] = s;
    for (std::int64_t d = 0; d < width; ++d)
      simd::store(yr + d, simd::load(xr + d) * s * simd::load(w + d));
  }
}

// With n = x * s: dx = s * (g w - n * mean(g w n)), dw = sum over rows of g n (added to dw,
// float32).
template <typename T>
GIMBAL_INLINE void rms_backward_rows(const RmsRows& rows, const T* g, const T* x, const T* w,
                                     const float* scale, T* dx, float* dw) {
  const std::int64_t width = rows.width;
  for (std::int64_t r = rows.begin; r < rows.end; ++r) {
    const T *gr = g + r * width, *xr = x + r * width;
    T* dxr = dx + r * width;
    const float s = scale[r];
    float lanes[simd::kLanes] = {};
    std::int64_t i = 0;
    for (; i + simd::kLanes <= width; i += simd::kLanes)
      for (int j = 0; j < simd::kLanes; ++j) {
        const float gn = simd::load(gr + i + j) * simd::load(xr + i + j) * s;
        dw[i + j] += gn;
        lanes[j] += gn * simd::load(w + i + j);
      }
    float sum = 0;
    for (; i < width; ++i) {
      const float gn = simd::load(gr + i) * simd::load(xr + i) * s;
      dw[i] += gn;
      sum += gn * simd::load(w + i);
    }
    for (const float lane : lanes) sum += lane;
    const float c = sum / static_cast<float>(width) * s;
    for (std::int64_t d = 0; d < width; ++d)
      simd::store(dxr + d, s * (simd::load(gr + d) * simd::load(w + d) - simd::load(xr + d) * c));
  }
}

GIMBAL_SIMD_CLONES void rms_forward(const RmsRows& rows, const float* x, const float* w, float* y,
                                    float* scale, float eps) {
  rms_forward_rows(rows, x, w, y, scale, eps);
}
GIMBAL_SIMD_CLONES void rms_forward(const RmsRows& rows, const simd::Bf16* x, const simd::Bf16* w,
                                    simd::Bf16* y, float* scale, float eps) {
  rms_forward_rows(rows, x, w, y, scale, eps);
}
GIMBAL_SIMD_CLONES void rms_backward(const RmsRows& rows, const float* g, const float* x,
                                     const float* w, const float* scale, float* dx, float* dw) {
  rms_backward_rows(rows, g, x, w, scale, dx, dw);
}
GIMBAL_SIMD_CLONES void rms_backward(const RmsRows& rows, const simd::Bf16* g, const simd::Bf16* x,
                                     const simd::Bf16* w, const float* scale, simd::Bf16* dx,
                                     float* dw) {
  rms_backward_rows(rows, g, x, w, scale, dx, dw);
}

class RmsNormFunction : public torch::autograd::Function<RmsNormFunction> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x_in,
                            const at::Tensor& weight, double eps) {
    const at::AutoDispatchBelowADInplaceOrView below;
    const at::Tensor x = x_in.contiguous(), w = weight.contiguous();
    at::Tensor y = at::empty_like(x);
    const std::int64_t width = w.numel(), num_rows = x.numel() / width;
    const at::Tensor scale = at::empty({num_rows}, x.options().dtype(at::kFloat));
    dispatch_fused(x, [&](auto* type) {
      using T = std::remove_pointer_t<decltype(type)>;
      at::parallel_for(0, num_rows, kRowsPerTask, [&](std::int64_t begin, std::int64_t end) {
        rms_forward({begin, end, width}, fused_data<T>(x), fused_data<T>(w), fused_data<T>(y),
                    fused_data<float>(scale), static_cast<float>(eps));
      });
    });
    context->save_for_backward({x, w, scale});
    return y;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list grads) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &w = saved[1], &scale = saved[2];
    const at::Tensor g = grads[0].contiguous();
    at::Tensor dx = at::empty_like(x);
    const std::int64_t width = w.numel(), num_rows = scale.numel();
    // One partial sum per fixed range of rows: the result does not depend on the number of threads.
    constexpr std::int64_t kRowsPerSum = 1024;
    const std::int64_t num_sums = (num_rows + kRowsPerSum - 1) / kRowsPerSum;
    const at::Tensor sums = at::zeros({num_sums, width}, x.options().dtype(at::kFloat));
    dispatch_fused(x, [&](auto* type) {
      using T = std::remove_pointer_t<decltype(type)>;
      at::parallel_for(0, num_sums, 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i)
          rms_backward({i * kRowsPerSum, std::min((i + 1) * kRowsPerSum, num_rows), width},
                       fused_data<T>(g), fused_data<T>(x), fused_data<T>(w),
                       fused_data<float>(scale), fused_data<T>(dx),
                       fused_data<float>(sums) + i * width);
      });
    });
    return {dx, sums.sum(0).to(w.scalar_type()), at::Tensor()};
  }
};

}  // namespace

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  if (has_fused_loops(x) && weight.scalar_type() == x.scalar_type())
    return RmsNormFunction::apply(x, weight, eps);
  const at::ScalarType wide = x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const at::Tensor v = x.to(wide);
  return (v * at::rsqrt((v * v).mean({-1}, true) + eps)).to(x.scalar_type()) * weight;
}

}  // namespace gimbal
