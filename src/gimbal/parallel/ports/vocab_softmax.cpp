#include "gimbal/parallel/ports/vocab_softmax.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>

#include <limits>

#include "gimbal/nn/loss/softmax_row.h"

namespace gimbal {
namespace {

at::Tensor start_softmax_cpu(at::Tensor& logits, const at::Tensor& targets_in) {
  const std::int64_t rows = logits.size(0), size = logits.size(1);
  const at::Tensor own = at::empty({VocabStatistics::kCount, rows}, logits.options());
  const at::Tensor targets = targets_in.contiguous();
  auto* values = logits.mutable_data_ptr<float>();
  const auto* target = targets.const_data_ptr<std::int64_t>();
  auto* largest = own.mutable_data_ptr<float>();
  auto *sum = largest + rows, *target_logit = sum + rows;
  at::parallel_for(0, rows, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t q = begin; q < end; ++q) {
      const bool mine = target[q] >= 0 && target[q] < size;
      target_logit[q] = mine ? values[q * size + target[q]] : 0.0f;
      const SoftmaxRow row = start_softmax_row(values + q * size, size);
      largest[q] = row.largest;
      sum[q] = row.sum;
    }
  });
  return own;
}

// The rows' largest logit over all ranks, and the sum of the exponentials relative to it.
std::pair<at::Tensor, at::Tensor> joined_softmax(const at::Tensor& all) {
  const at::Tensor largest = all.select(1, VocabStatistics::kLargest);
  const at::Tensor top = largest.amax(0);
  return {top, (all.select(1, VocabStatistics::kSum) * (largest - top).exp()).sum(0)};
}

}  // namespace

at::Tensor start_softmax(at::Tensor& logits_qv, const at::Tensor& targets_q) {
  if (logits_qv.device().is_cpu() && logits_qv.scalar_type() == at::kFloat)
    return start_softmax_cpu(logits_qv, targets_q);
  at::Tensor own = at::empty({VocabStatistics::kCount, logits_qv.size(0)}, logits_qv.options());
  if (logits_qv.size(1) == 0) {
    own.zero_();
    own[VocabStatistics::kLargest].fill_(-std::numeric_limits<double>::infinity());
    return own;
  }
  const at::Tensor others = (targets_q < 0).logical_or_(targets_q >= logits_qv.size(1));
  const at::Tensor columns = targets_q.clamp(0, logits_qv.size(1) - 1).unsqueeze(1);
  own[VocabStatistics::kTarget].copy_(
      logits_qv.gather(1, columns).squeeze(1).masked_fill_(others, 0));
  const at::Tensor largest = logits_qv.amax(1);
  own[VocabStatistics::kLargest].copy_(largest);
  logits_qv.sub_(largest.unsqueeze(1)).exp_();
  own[VocabStatistics::kSum].copy_(logits_qv.sum(1));
  return own;
}

at::Tensor softmax_loss(const at::Tensor& all_P3q, const at::Tensor& weights_q) {
  const at::Tensor all = all_P3q.to(at::kDouble);
  const auto [top, sum] = joined_softmax(all);
  const at::Tensor target_logit = all.select(1, VocabStatistics::kTarget).sum(0);
  return ((top + sum.log() - target_logit) * weights_q.to(at::kDouble)).sum();
}

void softmax_gradient(at::Tensor& exp_qv, const at::Tensor& own_3q, const at::Tensor& all_P3q,
                      const at::Tensor& targets_q, const at::Tensor& weights_q) {
  if (exp_qv.size(1) == 0) return;
  const auto [top, sum] = joined_softmax(all_P3q);
  const at::Tensor weights = weights_q.to(exp_qv.scalar_type());
  exp_qv.mul_(((own_3q[VocabStatistics::kLargest] - top).exp() / sum * weights).unsqueeze(1));
  const at::Tensor others = (targets_q < 0).logical_or_(targets_q >= exp_qv.size(1));
  const at::Tensor columns = targets_q.clamp(0, exp_qv.size(1) - 1).unsqueeze(1);
  exp_qv.scatter_add_(1, columns, (weights * -1.0).masked_fill_(others, 0).unsqueeze(1));
}

}  // namespace gimbal
