// When our own CPU loops may run instead of ATen operators.
#pragma once

#include <ATen/core/Tensor.h>

#include "gimbal/nn/ops/simd.h"

namespace gimbal {

/// Rows given to one thread at a time by the row loops.
inline constexpr std::int64_t kRowsPerTask = 64;

/// True for CPU tensors of float32 or bfloat16: the dtypes that the loops know.
inline bool has_fused_loops(const at::Tensor& x) {
  return x.device().is_cpu() && (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16);
}

template <typename T>
T* fused_data(const at::Tensor& x) {
  return static_cast<T*>(x.data_ptr());
}

/// Calls f with a null pointer of the element type of x (float or simd::Bf16).
template <typename F>
void dispatch_fused(const at::Tensor& x, const F& f) {
  if (x.scalar_type() == at::kFloat)
    f(static_cast<float*>(nullptr));
  else
    f(static_cast<simd::Bf16*>(nullptr));
}

}  // namespace gimbal
