#include <ATen/TensorOperators.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "gimbal/base/error.h"
#include "gimbal/nn/gemm.h"
#include "gimbal/parallel/ports.h"
#include "gimbal/parallel/ports/vocab_softmax.h"

namespace gimbal {
namespace {

struct VocabLoss {
  Comm& tp;
  std::int64_t vocab_begin;  // of this rank
  std::int64_t chunk_rows;
};

// As the local function: gradients are computed with the loss, so that logits exist for one chunk
// only. The ranks of a group have the same rows, and so the same chunks.
class VocabLossFunction : public torch::autograd::Function<VocabLossFunction> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x_in,
                            const at::Tensor& w, const at::Tensor& targets,
                            const at::Tensor& weights, const VocabLoss& vocab,
                            bool wants_x_gradient, bool wants_w_gradient) {
    const at::AutoDispatchBelowADInplaceOrView below;
    const at::Tensor x = x_in.contiguous(), own_targets = targets - vocab.vocab_begin;
    const at::ScalarType wide = x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
    at::Tensor loss = at::zeros({}, x.options().dtype(at::kDouble));
    at::Tensor dx = wants_x_gradient ? at::empty_like(x) : at::Tensor();
    at::Tensor dw = wants_w_gradient ? at::zeros(w.sizes(), w.options().dtype(wide)) : at::Tensor();
    for (std::int64_t begin = 0; begin < x.size(0); begin += vocab.chunk_rows) {
      const std::int64_t rows = std::min(vocab.chunk_rows, x.size(0) - begin);
      const at::Tensor part = x.narrow(0, begin, rows), weight = weights.narrow(0, begin, rows),
                       target = own_targets.narrow(0, begin, rows);
      at::Tensor logits = gemm_nt(part, w).to(wide);
      const at::Tensor own = start_softmax(logits, target);
      const at::Tensor all = vocab.tp.all_gather(own, "softmax of the loss for tp");
      loss += softmax_loss(all, weight);
      if (!wants_x_gradient && !wants_w_gradient) continue;
      softmax_gradient(logits, own, all, target, weight);
      const at::Tensor d_logits = logits.to(x.scalar_type());
      if (wants_x_gradient) dx.narrow(0, begin, rows).copy_(gemm_nt(d_logits, w.t()));
      // Products of bfloat16 chunks are added up in float32.
      if (wants_w_gradient) dw.add_(gemm_nt(d_logits.t(), part.t()));
    }
    context->saved_data["dx"] = dx;
    context->saved_data["dw"] = dw.defined() ? dw.to(w.scalar_type()) : dw;
    return loss.to(wide);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list grads) {
    const auto scaled = [&](const char* name) {
      const c10::IValue& value = context->saved_data[name];
      if (!value.isTensor() || !value.toTensor().defined()) return at::Tensor();
      const at::Tensor& gradient = value.toTensor();
      return gradient * grads[0].to(gradient.scalar_type());
    };
    return {scaled("dx"), scaled("dw"), {}, {}, {}, {}, {}};
  }
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
    GIMBAL_CHECK(chunk_rows > 0, "chunk_rows: ", chunk_rows);
    GIMBAL_CHECK_EQ(x_QD.size(0), targets_Q.size(0));
    const VocabLoss vocab{tp_, own_part(w_vD, vocab_size).own_begin(), chunk_rows};
    const bool grad = at::GradMode::is_enabled();
    return VocabLossFunction::apply(x_QD, w_vD, targets_Q, weights_Q, vocab,
                                    grad && x_QD.requires_grad(), grad && w_vD.requires_grad());
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
