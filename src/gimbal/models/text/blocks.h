// Blocks of the text backbones Qwen2, Qwen3 and Llama. Shapes: t rows of this rank, s rows of its
// sequence part, T rows of the pack, D width, F ffn width, V vocabulary, R visual rows, Q loss
// rows. The letter of a dim that is cut over tensor-parallel ranks stays.
#pragma once

#include <memory>
#include <string>

#include "gimbal/models/block.h"
#include "gimbal/models/text/attention.h"
#include "gimbal/models/text/config.h"
#include "gimbal/nn/layers.h"

namespace gimbal {

/// "text.embed": token embeddings, with the visual rows put in the places of the image tokens.
class TextEmbed : public Block {
 public:
  /// `tokens_per_tile`: visual tokens of a tile; 0 for text models.
  TextEmbed(const TextConfig& config, std::int64_t tokens_per_tile, const Ports& ports);
  Flow forward(const PassContext& context, const Flow& in) const override;
  FlowShape output_shape(const Batch& batch, const FlowShape& in) const override;
  const ParameterPtr& weight() const { return weight_; }

 private:
  at::Tensor embed_tokens(const Batch& batch, const RowSplit& rows) const;
  at::Tensor put_visual_rows(const at::Tensor& text_tD, const at::Tensor& vision_rD,
                             const Batch& batch, const RowSplit& rows) const;

  Ports ports_;
  ParameterPtr weight_;
  std::int64_t vocab_size_, width_, padding_id_, sliding_window_, tokens_per_tile_;
};

/// Gated feed-forward layer.
class TextMlp {
 public:
  TextMlp(ParameterList& list, const std::string& name, const TextConfig& config,
          const Ports& ports);
  /// `rows`: the cut of the pack's rows.
  at::Tensor operator()(const at::Tensor& x_tD, const RowSplit& rows) const;

 private:
  Ports ports_;
  Linear gate_proj_, up_proj_;
  RowLinear down_proj_;
  Activation activation_;
};

/// "text.0", "text.1", ...: one decoder layer.
class TextLayer : public LayerBlock {
 public:
  TextLayer(const TextConfig& config, std::int64_t layer, std::shared_ptr<const RotaryTable> rotary,
            const Ports& ports);
  FlowShape output_shape(const Batch&, const FlowShape& in) const override {
    return {std::nullopt, in.text};
  }

 private:
  Flow forward_attention(const PassContext& context, const Flow& in) const override;
  Flow forward_mlp(const PassContext& context, const Flow& in) const override;

  Ports ports_;
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
  FlowShape output_shape(const Batch&, const FlowShape& in) const override {
    return {std::nullopt, in.text};
  }

 private:
  RmsNorm norm_;
};

/// "text.head": the loss of the loss rows in this rank's sequence part, the same on its
/// tensor-parallel ranks; or the logits of all rows. Owns the output weight unless `tied_weight` is
/// the embedding's.
class TextHead : public Block {
 public:
  TextHead(const TextConfig& config, const ParameterPtr& tied_weight, const Ports& ports);
  Flow forward(const PassContext& context, const Flow& in) const override;
  FlowShape output_shape(const Batch&, const FlowShape&) const override { return {}; }

 private:
  at::Tensor loss(const PassContext& context, const at::Tensor& x_sD) const;
  at::Tensor logits(const at::Tensor& x) const;

  Ports ports_;
  ParameterPtr weight_;
  std::int64_t vocab_size_;
};

}  // namespace gimbal
