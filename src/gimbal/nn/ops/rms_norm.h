// Root mean square norm as an autograd operation.
#pragma once

#include <ATen/core/Tensor.h>

namespace gimbal {

/// x / sqrt(mean(x^2) + eps) * weight over the last dim. float32 and bfloat16 on the CPU run fused
/// loops, others ATen operators. Statistics are float32 for dtypes below float32. Zero rows are
/// valid.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);

}  // namespace gimbal
