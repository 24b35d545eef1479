// Blocks of InternVL's vision tower and projector (Chen et al. 2023). Shapes: I tiles, S rows of a
// tile (class token and patches), P patches, D width, N heads, H head width, C Y X channels, pixel
// rows and columns.
#pragma once

#include <optional>
#include <string>

#include "gimbal/models/block.h"
#include "gimbal/models/internvl/config.h"
#include "gimbal/nn/layers.h"

namespace gimbal {

/// "vision.embed": patches to rows, class token and positions. Class token and positions start from
/// the normal distribution of the other weights (transformers starts them from zeros, where patches
/// of a new model cannot be told apart).
class VisionEmbed : public Block {
 public:
  explicit VisionEmbed(const InternVlVisionConfig& config);
  /// flow.vision: [I, S, D].
  Flow forward(const PassContext& context, const Flow& in) const override;

 private:
  /// [I, P, C * patch * patch]: the operand of the convolution whose kernel is its stride.
  at::Tensor cut_patches(const at::Tensor& pixels_ICYX) const;

  InternVlVisionConfig config_;
  ParameterPtr cls_token_, positions_, patch_weight_, patch_bias_;
};

/// Layer norm or root mean square norm, as the configuration says.
class VisionNorm {
 public:
  VisionNorm(ParameterList& list, const std::string& name, const InternVlVisionConfig& config);
  at::Tensor operator()(const at::Tensor& x) const {
    return layer_norm_ ? (*layer_norm_)(x) : (*rms_norm_)(x);
  }

 private:
  std::optional<LayerNorm> layer_norm_;
  std::optional<RmsNorm> rms_norm_;
};

class VisionAttention {
 public:
  VisionAttention(ParameterList& list, const std::string& name, const InternVlVisionConfig& config);
  at::Tensor operator()(const at::Tensor& x_ISD) const;

 private:
  std::int64_t num_heads_, head_dim_;
  Linear q_proj_, k_proj_, v_proj_, o_proj_;
  std::optional<RmsNorm> q_norm_, k_norm_;
};

/// "vision.0", "vision.1", ...: one layer of the tower, with layer scale.
class VisionLayer : public LayerBlock {
 public:
  VisionLayer(const InternVlVisionConfig& config, std::int64_t layer);

 private:
  Flow forward_attention(const PassContext& context, const Flow& in) const override;
  Flow forward_mlp(const PassContext& context, const Flow& in) const override;

  VisionNorm norm_before_;
  VisionAttention attention_;
  ParameterPtr lambda_1_;
  VisionNorm norm_after_;
  Linear fc1_, fc2_;
  ParameterPtr lambda_2_;
  Activation activation_;
};

/// "projector": the tower's last norm if it has one, patches without the class token, pixel
/// shuffle, and a two-layer perceptron to the text's width.
class Projector : public Block {
 public:
  explicit Projector(const InternVlConfig& config);
  /// flow.vision: [I * tokens per tile, width of the text].
  Flow forward(const PassContext& context, const Flow& in) const override;

 private:
  at::Tensor shuffle_pixels(const at::Tensor& x_IPD) const;

  std::int64_t grid_, shuffle_;
  std::optional<LayerNorm> vision_norm_;
  LayerNorm layer_norm_;
  Linear linear_1_, linear_2_;
  Activation activation_;
};

}  // namespace gimbal
