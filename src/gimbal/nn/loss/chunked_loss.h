// The loss of an output projection, chunk by chunk of rows, with its gradients. Shapes: Q loss
// rows, q rows of a chunk, D width, V vocabulary (of this rank).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace gimbal {

/// What is computed of the logits of a chunk.
class ChunkLoss {
 public:
  virtual ~ChunkLoss() = default;
  /// Adds the loss of a chunk. `logits_qV` (float32, or float64 in float64 runs) are the caller's
  /// no more; with `wants_gradient` they become their gradient.
  virtual void add(at::Tensor& logits_qV, const at::Tensor& targets_q, const at::Tensor& weights_q,
                   bool wants_gradient) = 0;
  /// The sum over the chunks, 0-dim, in the dtype of the logits.
  virtual at::Tensor sum() const = 0;
};

/// `loss` over the rows of x w^T, `chunk_rows` at a time. Gradients of x and w are computed in the
/// same pass (when one of them requires grad), so that logits exist for one chunk only.
at::Tensor chunked_linear_loss(const at::Tensor& x_QD, const at::Tensor& w_VD,
                               const at::Tensor& targets_Q, const at::Tensor& weights_Q,
                               std::int64_t chunk_rows, ChunkLoss& loss);

}  // namespace gimbal
