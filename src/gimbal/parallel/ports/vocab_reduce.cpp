#include <ATen/TensorOperators.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/zeros.h>

#include "gimbal/base/error.h"
#include "gimbal/nn/loss/chunked_loss.h"
#include "gimbal/parallel/ports.h"
#include "gimbal/parallel/ports/vocab_softmax.h"

namespace gimbal {
namespace {

// The ranks of a group have the same rows, and so the same chunks.
class VocabChunkLoss : public ChunkLoss {
 public:
  VocabChunkLoss(Comm& tp, std::int64_t vocab_begin, const at::TensorOptions& options)
      : tp_(tp),
        vocab_begin_(vocab_begin),
        options_(options),
        sum_(at::zeros({}, options.dtype(at::kDouble))) {}

  void add(at::Tensor& logits, const at::Tensor& targets, const at::Tensor& weights,
           bool wants_gradient) override {
    const at::Tensor own_targets = targets - vocab_begin_;
    const at::Tensor own = start_softmax(logits, own_targets);
    const at::Tensor all = tp_.all_gather(own, "softmax of the loss for tp");
    sum_ += softmax_loss(all, weights);
    if (wants_gradient) softmax_gradient(logits, own, all, own_targets, weights);
  }
  at::Tensor sum() const override { return sum_.to(options_); }

 private:
  Comm& tp_;
  std::int64_t vocab_begin_;  // of this rank
  at::TensorOptions options_;
  at::Tensor sum_;
};

class TensorVocab : public VocabReduce {
 public:
  explicit TensorVocab(Comm& tp) : tp_(tp) {}

  at::Tensor embed(const at::Tensor& w_vD, const at::Tensor& ids_s, std::int64_t vocab_size,
                   std::int64_t padding_id) const override {
    const RowSplit vocab = own_part(w_vD, vocab_size);
    const std::int64_t size = vocab.own_size();
    // The product keeps the empty part in the graph, as the other ranks have theirs.
    if (size == 0) return at::zeros({ids_s.size(0), w_vD.size(1)}, w_vD.options()) + w_vD.sum() * 0;
    const at::Tensor own_ids = ids_s - vocab.own_begin();
    const at::Tensor others = (own_ids < 0).logical_or_(own_ids >= size);
    const std::int64_t own_padding = padding_id - vocab.own_begin();
    const bool has_padding = padding_id >= 0 && own_padding >= 0 && own_padding < size;
    return at::embedding(w_vD, own_ids.clamp(0, size - 1), has_padding ? own_padding : -1)
        .masked_fill(others.unsqueeze(1), 0);
  }

  at::Tensor linear_cross_entropy(const at::Tensor& x_QD, const at::Tensor& w_vD,
                                  const at::Tensor& targets_Q, const at::Tensor& weights_Q,
                                  std::int64_t vocab_size, std::int64_t chunk_rows) const override {
    const bool wide = x_QD.scalar_type() == at::kDouble;
    VocabChunkLoss loss(tp_, own_part(w_vD, vocab_size).own_begin(),
                        x_QD.options().dtype(wide ? at::kDouble : at::kFloat));
    return chunked_linear_loss(x_QD, w_vD, targets_Q, weights_Q, chunk_rows, loss);
  }

 private:
  RowSplit own_part(const at::Tensor& w_vD, std::int64_t vocab_size) const {
    RowSplit vocab = split_rows(vocab_size, tp_.size(), tp_.rank());
    GIMBAL_CHECK_EQ(w_vD.size(0), vocab.own_size(), "of a vocabulary of ", vocab_size);
    return vocab;
  }

  Comm& tp_;
};

}  // namespace

std::shared_ptr<const VocabReduce> make_vocab_reduce(Comm& tp) {
  return std::make_shared<TensorVocab>(tp);
}

}  // namespace gimbal
