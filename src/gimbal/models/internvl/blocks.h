// Layers of InternVL's vision tower and the projector (Chen et al. 2023). Shapes: I tiles, S rows
// of a tile (class token and patches), P patches, D width, N heads, H head width; t rows of this
// rank of the I * S, s rows of its sequence part, n heads of one rank while it attends. The letter
// of a dim that is cut over tensor-parallel ranks stays.
#pragma once

#include <optional>
#include <string>

#include "gimbal/models/block.h"
#include "gimbal/models/internvl/config.h"
#include "gimbal/nn/layers.h"
#include "gimbal/nn/ports.h"

namespace gimbal {

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

/// Full attention inside each tile.
class VisionAttention {
 public:
  VisionAttention(ParameterList& list, const std::string& name, const InternVlVisionConfig& config,
                  const Ports& ports);
  at::Tensor operator()(const at::Tensor& x_tD, std::int64_t num_tiles) const;

 private:
  Ports ports_;
  std::int64_t tile_rows_, head_dim_;
  std::int64_t num_heads_;  // of this tensor-parallel rank
  Linear q_proj_, k_proj_, v_proj_;
  RowLinear o_proj_;
  std::optional<SplitRmsNorm> q_norm_, k_norm_;
};

/// "vision.0", "vision.1", ...: one layer of the tower, with layer scale.
class VisionLayer : public LayerBlock {
 public:
  VisionLayer(const InternVlVisionConfig& config, std::int64_t layer, const Ports& ports);
  FlowShape output_shape(const Batch&, const FlowShape& in) const override {
    return {in.vision, std::nullopt};
  }

 private:
  Flow forward_attention(const PassContext& context, const Flow& in) const override;
  Flow forward_mlp(const PassContext& context, const Flow& in) const override;

  Ports ports_;
  std::int64_t tile_rows_;
  VisionNorm norm_before_;
  VisionAttention attention_;
  ParameterPtr lambda_1_;
  VisionNorm norm_after_;
  Linear fc1_;
  RowLinear fc2_;
  ParameterPtr lambda_2_;
  Activation activation_;
};

/// "projector": the tower's last norm if it has one, patches without the class token, pixel
/// shuffle, and a two-layer perceptron to the text's width. Works on whole tiles, which are cut
/// over all ranks that share the pack.
class Projector : public Block {
 public:
  Projector(const InternVlConfig& config, const Ports& ports);
  /// flow.vision: [tiles of this rank * tokens per tile, width of the text].
  Flow forward(const PassContext& context, const Flow& in) const override;
  FlowShape output_shape(const Batch& batch, const FlowShape& in) const override;

 private:
  at::Tensor shuffle_pixels(const at::Tensor& x_IPD) const;

  Ports ports_;
  std::int64_t grid_, shuffle_, tile_rows_, text_width_;
  std::optional<LayerNorm> vision_norm_;
  LayerNorm layer_norm_;
  Linear linear_1_, linear_2_;
  Activation activation_;
};

}  // namespace gimbal
