#include "gimbal/models/internvl/vision_embed.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/zeros.h>

#include "gimbal/base/error.h"
#include "gimbal/nn/gemm.h"
#include "gimbal/nn/layers.h"

namespace gimbal {
namespace {

// Rows that the flat rows [0, row) of whole tiles hold besides class tokens, which come first.
std::int64_t patches_before(std::int64_t row, std::int64_t tile_rows) {
  return row - (row + tile_rows - 1) / tile_rows;
}

at::Tensor zero_rows(const at::Tensor& like, std::int64_t num_rows) {
  return at::zeros({num_rows, like.size(1)}, like.options());
}

}  // namespace

VisionEmbed::VisionEmbed(const InternVlVisionConfig& config, const Ports& ports)
    : Block("vision.embed"),
      ports_(ports),
      config_(config),
      cls_token_(list_.add("vision.embed.cls_token", {1, 1, config.width},
                           normal_init(config.initializer_range))),
      positions_(config.position_embeddings ? list_.add("vision.embed.position_embeddings",
                                                        {1, config.num_rows(), config.width},
                                                        normal_init(config.initializer_range))
                                            : nullptr),
      patch_weight_(
          list_.add("vision.embed.patch.weight",
                    {config.width, config.num_channels, config.patch_size, config.patch_size},
                    normal_init(config.initializer_range))),
      patch_bias_(list_.add("vision.embed.patch.bias", {config.width}, constant_init(0))) {}

FlowShape VisionEmbed::output_shape(const Batch& batch, const FlowShape&) const {
  const RowSplit rows = ports_.sequence->split(batch.num_tiles * config_.num_rows());
  return {RowsShape{rows.own_size(), config_.width}, std::nullopt};
}

at::Tensor VisionEmbed::checked_pixels(const Batch& batch) const {
  const std::vector<std::int64_t> tile{config_.num_channels, config_.image_size,
                                       config_.image_size};
  const at::Tensor& pixels_ICYX = batch.pixels_ICYX;
  if (!pixels_ICYX.defined()) {
    GIMBAL_CHECK_EQ(batch.num_tiles, 0, "the pixels of a batch were not read");
    return at::zeros({0, tile[0], tile[1], tile[2]}, patch_weight_->value.options());
  }
  GIMBAL_USER_CHECK(pixels_ICYX.dim() == 4 && pixels_ICYX.sizes().slice(1) == at::IntArrayRef(tile),
                    "the tiles of the batch are ", pixels_ICYX.sizes().slice(1),
                    " but the model's vision_config wants ", at::IntArrayRef(tile),
                    " (image_size); prepare the data set again with this model's folder");
  GIMBAL_CHECK_EQ(pixels_ICYX.size(0), batch.num_tiles, "tiles of the batch");
  return pixels_ICYX;
}

at::Tensor VisionEmbed::cut_patches(const at::Tensor& pixels_ICYX) const {
  const std::int64_t num_tiles = pixels_ICYX.size(0), grid = config_.grid(),
                     patch = config_.patch_size;
  return pixels_ICYX.reshape({num_tiles, config_.num_channels, grid, patch, grid, patch})
      .permute({0, 2, 4, 1, 3, 5})
      .reshape({num_tiles * grid * grid, config_.num_channels * patch * patch});
}

Flow VisionEmbed::forward(const PassContext& context, const Flow&) const {
  const std::int64_t tile_rows = config_.num_rows(), tile_patches = config_.num_patches();
  const RowSplit rows = ports_.sequence->split(context.batch.num_tiles * tile_rows);
  // The tiles that this rank's rows touch, and its patches, counted from the first tile's.
  const std::int64_t begin = rows.own_begin(), end = begin + rows.own_size(),
                     first_tile = begin / tile_rows,
                     num_tiles = (end + tile_rows - 1) / tile_rows - first_tile,
                     first_patch = patches_before(begin, tile_rows) - first_tile * tile_patches,
                     num_patches =
                         patches_before(end, tile_rows) - patches_before(begin, tile_rows),
                     missing = num_tiles * tile_patches - first_patch - num_patches;
  const at::Tensor pixels = checked_pixels(context.batch).narrow(0, first_tile, num_tiles);
  at::Tensor patches = cut_patches(pixels.to(patch_weight_->value.scalar_type()));
  patches =
      apply_linear(patches.narrow(0, first_patch, num_patches), *patch_weight_, patch_bias_.get());
  // Patches of other ranks are zeros until their rows are cut away below.
  if (first_patch > 0 || missing > 0)
    patches = at::cat({zero_rows(patches, first_patch), patches, zero_rows(patches, missing)});
  at::Tensor x_ISD = at::cat({cls_token_->value.expand({num_tiles, 1, config_.width}),
                              patches.view({num_tiles, tile_patches, config_.width})},
                             1);
  if (positions_) x_ISD = x_ISD + positions_->value;
  Flow out;
  out.vision = x_ISD.view({num_tiles * tile_rows, config_.width});
  if (rows.own_size() < num_tiles * tile_rows)
    out.vision = out.vision.narrow(0, begin - first_tile * tile_rows, rows.own_size());
  return out;
}

}  // namespace gimbal
