#include "gimbal/models/text/blocks.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/tensor.h>

#include <algorithm>

#include "gimbal/base/error.h"
#include "gimbal/nn/attention.h"
#include "gimbal/nn/gemm.h"
#include "gimbal/nn/linear_cross_entropy.h"
#include "gimbal/nn/swiglu.h"

namespace gimbal {
namespace {

std::string layer_name(std::int64_t layer) { return "text." + std::to_string(layer); }

// Lengths of the batch's sequences, tokens in the cache included.
std::vector<std::int64_t> sequence_lengths(const PassContext& context) {
  const auto& cu = context.batch.text_cu_seqlens;
  std::vector<std::int64_t> lengths(cu.empty() ? 0 : cu.size() - 1);
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    lengths[i] = cu[i + 1] - cu[i];
    if (context.cache != nullptr) lengths[i] += context.cache->lengths()[i];
  }
  return lengths;
}

// The last row of each sequence that has one.
at::Tensor last_rows(const PassContext& context, const at::Device& device) {
  std::vector<std::int64_t> rows;
  const auto& cu = context.batch.text_cu_seqlens;
  for (std::size_t i = 0; i + 1 < cu.size(); ++i) {
    GIMBAL_CHECK(cu[i + 1] > cu[i], "generation needs at least one token of each sequence");
    rows.push_back(cu[i + 1] - 1);
  }
  return at::tensor(rows, at::kLong).to(device);
}

}  // namespace

TextEmbed::TextEmbed(const TextConfig& config)
    : Block("text.embed"),
      weight_(list_.add("text.embed.weight", {config.vocab_size, config.width},
                        normal_init(config.initializer_range))),
      padding_id_(config.padding_id),
      sliding_window_(config.sliding_window) {}

Flow TextEmbed::forward(const PassContext& context, const Flow& in) const {
  const Batch& batch = context.batch;
  if (sliding_window_ > 0)
    for (const std::int64_t length : sequence_lengths(context))
      GIMBAL_USER_CHECK(length <= sliding_window_, "a sequence of ", length,
                        " tokens is longer than the model's sliding_window of ", sliding_window_,
                        "; sliding-window attention is not supported: use shorter samples");
  Flow out;
  out.text = at::embedding(weight_->value, batch.token_ids_T, padding_id_);
  if (!in.vision.defined()) return out;
  const std::int64_t num_places = batch.image_rows_R.defined() ? batch.image_rows_R.size(0) : 0;
  GIMBAL_USER_CHECK(in.vision.size(0) == num_places, "the pictures of a batch give ",
                    in.vision.size(0), " visual tokens but its text has places for ", num_places,
                    "; prepare the data set again with this model's folder");
  if (num_places > 0) {
    out.text = out.text.index_copy(0, batch.image_rows_R, in.vision.to(out.text.scalar_type()));
  } else if (in.vision.requires_grad()) {
    // Keeps the vision blocks in the graph: their gradients are zeros, not absent.
    out.text = out.text + in.vision.sum() * 0;
  }
  return out;
}

TextAttention::TextAttention(ParameterList& list, const std::string& name, const TextConfig& c,
                             std::int64_t layer, std::shared_ptr<const RotaryTable> rotary)
    : layer_(layer),
      head_dim_(c.head_dim),
      q_proj_(list, name + ".q_proj", c.width, c.num_heads * c.head_dim, c.qkv_bias,
              c.initializer_range),
      k_proj_(list, name + ".k_proj", c.width, c.num_kv_heads * c.head_dim, c.qkv_bias,
              c.initializer_range),
      v_proj_(list, name + ".v_proj", c.width, c.num_kv_heads * c.head_dim, c.qkv_bias,
              c.initializer_range),
      o_proj_(list, name + ".o_proj", c.num_heads * c.head_dim, c.width, c.output_bias,
              c.initializer_range),
      rotary_(std::move(rotary)) {
  if (!c.qk_norm) return;
  q_norm_.emplace(list, name + ".q_norm", c.head_dim, c.norm_eps);
  k_norm_.emplace(list, name + ".k_norm", c.head_dim, c.norm_eps);
}

at::Tensor TextAttention::operator()(const at::Tensor& x_TD, const PassContext& context) const {
  const std::int64_t num_tokens = x_TD.size(0);
  const auto heads = [&](const at::Tensor& x) {
    return x.view({num_tokens, x.size(1) / head_dim_, head_dim_});
  };
  at::Tensor q_TNH = heads(q_proj_(x_TD)), k_TKH = heads(k_proj_(x_TD));
  const at::Tensor v_TKH = heads(v_proj_(x_TD));
  if (q_norm_) q_TNH = (*q_norm_)(q_TNH), k_TKH = (*k_norm_)(k_TKH);
  const RotaryAngles angles =
      rotary_->angles(context.batch.positions_T, context.batch.text_cu_seqlens,
                      sequence_lengths(context), x_TD.scalar_type());
  const at::Tensor out_TNH = attend(rotate(q_TNH, angles), rotate(k_TKH, angles), v_TKH, context);
  return o_proj_(out_TNH.reshape({num_tokens, out_TNH.size(1) * head_dim_}));
}

at::Tensor TextAttention::attend(const at::Tensor& q_TNH, const at::Tensor& k_TKH,
                                 const at::Tensor& v_TKH, const PassContext& context) const {
  KvCache* cache = context.cache;
  if (cache == nullptr || cache->empty()) {
    if (cache != nullptr) cache->store_prompt(layer_, k_TKH, v_TKH, context.batch.text_cu_seqlens);
    return causal_attention(q_TNH, k_TKH, v_TKH, context.batch.text_cu_seqlens);
  }
  cache->store_next(layer_, k_TKH, v_TKH);
  return decode_attention(q_TNH, cache->keys(layer_), cache->values(layer_),
                          sequence_lengths(context));
}

TextMlp::TextMlp(ParameterList& list, const std::string& name, const TextConfig& c)
    : gate_proj_(list, name + ".gate_proj", c.width, c.ffn_width, c.mlp_bias, c.initializer_range),
      up_proj_(list, name + ".up_proj", c.width, c.ffn_width, c.mlp_bias, c.initializer_range),
      down_proj_(list, name + ".down_proj", c.ffn_width, c.width, c.mlp_bias, c.initializer_range),
      activation_(c.activation) {}

at::Tensor TextMlp::operator()(const at::Tensor& x_TD) const {
  const at::Tensor gate_TF = gate_proj_(x_TD), up_TF = up_proj_(x_TD);
  if (activation_ == Activation::kSilu) return down_proj_(silu_mul(gate_TF, up_TF));
  return down_proj_(activate(activation_, gate_TF) * up_TF);
}

TextLayer::TextLayer(const TextConfig& config, std::int64_t layer,
                     std::shared_ptr<const RotaryTable> rotary)
    : LayerBlock(layer_name(layer)),
      input_norm_(list_, name() + ".input_norm", config.width, config.norm_eps),
      attention_(list_, name() + ".attention", config, layer, std::move(rotary)),
      post_attention_norm_(list_, name() + ".post_attention_norm", config.width, config.norm_eps),
      mlp_(list_, name() + ".mlp", config) {}

Flow TextLayer::forward_attention(const PassContext& context, const Flow& in) const {
  Flow out;
  out.text = in.text + attention_(input_norm_(in.text), context);
  return out;
}

Flow TextLayer::forward_mlp(const PassContext&, const Flow& in) const {
  Flow out;
  out.text = in.text + mlp_(post_attention_norm_(in.text));
  return out;
}

TextNorm::TextNorm(const TextConfig& config)
    : Block("text.norm"), norm_(list_, "text.norm", config.width, config.norm_eps) {}

Flow TextNorm::forward(const PassContext&, const Flow& in) const {
  Flow out;
  out.text = norm_(in.text);
  return out;
}

TextHead::TextHead(const TextConfig& config, const ParameterPtr& tied_weight)
    : Block("text.head"), weight_(tied_weight) {
  if (tied_weight)
    borrowed_.push_back(tied_weight);
  else
    weight_ = list_.add("text.head.weight", {config.vocab_size, config.width},
                        normal_init(config.initializer_range));
}

Flow TextHead::forward(const PassContext& context, const Flow& in) const {
  const at::Tensor& weight_VD = weight_->value;
  Flow out;
  switch (context.kind) {
    case PassKind::kLoss:
      out.loss = linear_cross_entropy(in.text.index_select(0, context.batch.loss_rows_Q), weight_VD,
                                      context.batch.targets_Q, context.batch.loss_weights_Q,
                                      context.loss_chunk_rows);
      break;
    case PassKind::kAllLogits:
      out.logits = apply_linear(in.text, weight_VD, std::nullopt);
      break;
    case PassKind::kNextLogits:
      out.logits = apply_linear(in.text.index_select(0, last_rows(context, in.text.device())),
                                weight_VD, std::nullopt);
      break;
  }
  return out;
}

}  // namespace gimbal
