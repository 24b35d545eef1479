// Output projection and token loss in one operation that never holds all logits. Shapes: Q loss
// rows, D width, V vocabulary.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace gimbal {

/// sum_q weights[q] * cross_entropy(x[q] w^T, targets[q]), 0-dim; float64 for float64 inputs, else
/// float32. Rows are taken `chunk_rows` at a time; gradients of x and w are computed in the same
/// pass (when one of them requires grad), so that logits exist for one chunk only. Softmax runs in
/// float32 (float64). No rows give 0 with zero gradients.
at::Tensor linear_cross_entropy(const at::Tensor& x_QD, const at::Tensor& w_VD,
                                const at::Tensor& targets_Q, const at::Tensor& weights_Q,
                                std::int64_t chunk_rows);

}  // namespace gimbal
