// Blocks of the text backbones Qwen2, Qwen3 and Llama. Shapes: T packed tokens, D width, N query
// heads, K kv heads, H head width, F ffn width, V vocabulary, R visual rows.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "gimbal/models/block.h"
#include "gimbal/models/text/config.h"
#include "gimbal/nn/layers.h"

namespace gimbal {

/// "text.embed": token embeddings, with the visual rows put in the places of the image tokens.
class TextEmbed : public Block {
 public:
  explicit TextEmbed(const TextConfig& config);
  Flow forward(const PassContext& context, const Flow& in) const override;
  const ParameterPtr& weight() const { return weight_; }

 private:
  ParameterPtr weight_;
  std::int64_t padding_id_, sliding_window_;
};

/// Causal grouped-query attention with rotary positions.
class TextAttention {
 public:
  TextAttention(ParameterList& list, const std::string& name, const TextConfig& config,
                std::int64_t layer, std::shared_ptr<const RotaryTable> rotary);
  at::Tensor operator()(const at::Tensor& x_TD, const PassContext& context) const;

 private:
  at::Tensor attend(const at::Tensor& q_TNH, const at::Tensor& k_TKH, const at::Tensor& v_TKH,
                    const PassContext& context) const;

  std::int64_t layer_, head_dim_;
  Linear q_proj_, k_proj_, v_proj_, o_proj_;
  std::optional<RmsNorm> q_norm_, k_norm_;
  std::shared_ptr<const RotaryTable> rotary_;
};

/// Gated feed-forward layer.
class TextMlp {
 public:
  TextMlp(ParameterList& list, const std::string& name, const TextConfig& config);
  at::Tensor operator()(const at::Tensor& x_TD) const;

 private:
  Linear gate_proj_, up_proj_, down_proj_;
  Activation activation_;
};

/// "text.0", "text.1", ...: one decoder layer.
class TextLayer : public LayerBlock {
 public:
  TextLayer(const TextConfig& config, std::int64_t layer,
            std::shared_ptr<const RotaryTable> rotary);

 private:
  Flow forward_attention(const PassContext& context, const Flow& in) const override;
  Flow forward_mlp(const PassContext& context, const Flow& in) const override;

  RmsNorm input_norm_;
  TextAttention attention_;
  RmsNorm post_attention_norm_;
  TextMlp mlp_;
};

/// "text.norm": the last norm.
class TextNorm : public Block {
 public:
  explicit TextNorm(const TextConfig& config);
  Flow forward(const PassContext& context, const Flow& in) const override;

 private:
  RmsNorm norm_;
};

/// "text.head": the loss of a batch, or logits. Owns the output weight unless `tied_weight` is the
/// embedding's.
class TextHead : public Block {
 public:
  TextHead(const TextConfig& config, const ParameterPtr& tied_weight);
  Flow forward(const PassContext& context, const Flow& in) const override;

 private:
  ParameterPtr weight_;
};

}  // namespace gimbal
