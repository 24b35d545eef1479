// Matrix products on the fastest kernels of the machine. Shapes: M, N, K as in C = A B^T.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

#include "gimbal/nn/parameter.h"

namespace gimbal {

/// a [M, K] times the transpose of b [N, K], plus bias [N] if there is one; no autograd. Either may
/// be a transposed view. On AMD CPUs with AVX-512, large float32 products run on oneDNN: the MKL
/// that torch is built with has AVX2 kernels only for them, at half the speed.
at::Tensor gemm_nt(const at::Tensor& a_MK, const at::Tensor& b_NK,
                   const std::optional<at::Tensor>& bias_N = std::nullopt);

/// Whether gemm_nt of float32 on the CPU makes a copy of a transposed a while it runs: oneDNN does.
bool gemm_copies_transposed(std::int64_t m, std::int64_t n, std::int64_t k);

/// y = x w^T + b over the last dim, with gradients.
at::Tensor apply_linear(const at::Tensor& x, const at::Tensor& w,
                        const std::optional<at::Tensor>& bias);

/// The same for bound parameters; dims of `weight` behind the first are one. While weight.deferred
/// is set, backward puts the product for the weight's gradient off into it, with the same result;
/// the bias has its gradient at once. `bias` may be null.
at::Tensor apply_linear(const at::Tensor& x, const Parameter& weight, const Parameter* bias);

}  // namespace gimbal
