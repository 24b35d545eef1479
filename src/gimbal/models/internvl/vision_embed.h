// Pixels to the rows of InternVL's vision tower. Shapes: I tiles, S rows of a tile (class token and
// patches), P patches, D width, C Y X channels, pixel rows and columns.
#pragma once

#include "gimbal/models/block.h"
#include "gimbal/models/internvl/config.h"
#include "gimbal/nn/ports.h"

namespace gimbal {

/// "vision.embed": patches to rows, class token and positions. Class token and positions start from
/// the normal distribution of the other weights (transformers starts them from zeros, where patches
/// of a new model cannot be told apart).
class VisionEmbed : public Block {
 public:
  VisionEmbed(const InternVlVisionConfig& config, const Ports& ports);
  Flow forward(const PassContext& context, const Flow& in) const override;
  /// The tiles that this rank's rows touch: whole ones.
  TileRange tiles_read(std::int64_t num_tiles) const override;
  FlowShape output_shape(const Batch& batch, const FlowShape& in) const override;

 private:
  RowSplit split_of(std::int64_t num_tiles) const;
  /// Those of the tiles that this rank reads.
  at::Tensor checked_pixels(const Batch& batch, TileRange tiles) const;
  /// [I * P, C * patch * patch]: the operand of the convolution whose kernel is its stride.
  at::Tensor cut_patches(const at::Tensor& pixels_ICYX) const;

  Ports ports_;
  InternVlVisionConfig config_;
  ParameterPtr cls_token_, positions_, patch_weight_, patch_bias_;
};

}  // namespace gimbal
