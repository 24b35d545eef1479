// The gate of gated feed-forward layers (Shazeer 2020) as an autograd operation.
#pragma once

#include <ATen/core/Tensor.h>

namespace gimbal {

/// silu(gate) * up, elementwise. float32 and bfloat16 on the CPU run fused loops, others ATen
/// operators.
at::Tensor silu_mul(const at::Tensor& gate, const at::Tensor& up);

}  // namespace gimbal
