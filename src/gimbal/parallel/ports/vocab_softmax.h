// Softmax and token loss of rows whose vocabulary is cut over ranks: what each rank computes on its
// own columns, and what they exchange. Shapes: q rows, v vocabulary entries of this rank, P ranks.
#pragma once

#include <ATen/core/Tensor.h>

namespace gimbal {

/// Of the own columns of each row, [3, q]: the largest logit, the sum of exp(logit - largest), the
/// target's logit. A rank without columns has -infinity, 0, 0; one without the target 0.
struct VocabStatistics {
  static constexpr int kLargest = 0, kSum = 1, kTarget = 2, kCount = 3;
};

/// The statistics; `logits_qv` (float32 or float64) become exp(logit - largest). `targets_q` count
/// from this rank's first entry and may lie outside of [0, v).
at::Tensor start_softmax(at::Tensor& logits_qv, const at::Tensor& targets_q);

/// sum_q weights[q] * loss of row q, 0-dim float64, from the statistics [P, 3, q] of all ranks: the
/// same bits on all of them.
at::Tensor softmax_loss(const at::Tensor& all_P3q, const at::Tensor& weights_q);

/// What start_softmax made of the logits becomes their gradient, weight * (softmax - one-hot).
void softmax_gradient(at::Tensor& exp_qv, const at::Tensor& own_3q, const at::Tensor& all_P3q,
                      const at::Tensor& targets_q, const at::Tensor& weights_q);

}  // namespace gimbal
