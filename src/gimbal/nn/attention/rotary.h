// Rotary position embedding (Su et al. 2021) as an autograd operation. Shapes: T tokens, N heads, H
// head width, P positions.
#pragma once

#include <ATen/core/Tensor.h>

namespace gimbal {

/// Cosines and sines of the angles of P positions, and which of them each token uses.
struct RotaryAngles {
  at::Tensor cos_PH;  // [P, H / 2], float32 (float64 in float64 runs)
  at::Tensor sin_PH;
  at::Tensor rows_T;  // int64
};

/// Turns each pair (x[h], x[h + H/2]) of x [T, N, H] by the token's angle. float32 and bfloat16 on
/// the CPU run fused loops.
at::Tensor rotate(const at::Tensor& x_TNH, const RotaryAngles& angles);

}  // namespace gimbal
