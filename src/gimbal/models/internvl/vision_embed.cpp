#include "gimbal/models/internvl/vision_embed.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/zeros.h>

#include "gimbal/base/error.h"
#include "gimbal/nn/layers.h"
#include "gimbal/nn/ops/gemm.h"

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

RowSplit VisionEmbed::split_of(std::int64_t num_tiles) const {
  return ports_.sequence->split(num_tiles * config_.num_rows());
}

TileRange VisionEmbed::tiles_read(std::int64_t num_tiles) const {
  const RowSplit rows = split_of(num_tiles);
  if (rows.own_size() == 0) return {};
  const std::int64_t tile_rows = config_.num_rows(), end = rows.own_begin() + rows.own_size();
  return {rows.own_begin() / tile_rows, (end + tile_rows - 1) / tile_rows};
}

FlowShape VisionEmbed::output_shape(const Batch& batch, const FlowShape&) const {
  return {RowsShape{split_of(batch.num_tiles).own_size(), config_.width}, std::nullopt};
}

at::Tensor VisionEmbed::checked_pixels(const Batch& batch, TileRange tiles) const {
  const std::vector<std::int64_t> tile{config_.num_channels, config_.image_size,
                                       config_.image_size};
  const at::Tensor& pixels_ICYX = batch.pixels_ICYX;
  if (!pixels_ICYX.defined()) {
    GIMBAL_CHECK_EQ(tiles.size(), 0, "the pixels of a batch were not read");
    return at::zeros({0, tile[0], tile[1], tile[2]}, patch_weight_->value.options());
  }
  GIMBAL_USER_CHECK(pixels_ICYX.dim() == 4 && pixels_ICYX.sizes().slice(1) == at::IntArrayRef(tile),
                    "the tiles of the batch are ", pixels_ICYX.sizes().slice(1),
                    " but the model's vision_config wants ", at::IntArrayRef(tile),
                    " (image_size); prepare the data set again with this model's folder");
  const TileRange present{batch.first_tile, batch.first_tile + pixels_ICYX.size(0)};
  GIMBAL_CHECK(present.end <= batch.num_tiles, "the batch has pixels of tiles [", present.begin,
               ", ", present.end, ") of ", batch.num_tiles);
  if (tiles.size() == 0) return pixels_ICYX.narrow(0, 0, 0);
  GIMBAL_CHECK(present.begin <= tiles.begin && tiles.end <= present.end,
               "the batch has pixels of tiles [", present.begin, ", ", present.end,
               "), this rank needs [", tiles.begin, ", ", tiles.end, ")");
  return pixels_ICYX.narrow(0, tiles.begin - present.begin, tiles.size());
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
  const RowSplit rows = split_of(context.batch.num_tiles);
  const TileRange tiles = tiles_read(context.batch.num_tiles);
  // A rank without rows is at the beginning, like one of a batch without tiles. Its patches are
  // counted from those of its first tile.
  const std::int64_t begin = rows.own_size() == 0 ? 0 : rows.own_begin(),
                     end = begin + rows.own_size(), num_tiles = tiles.size(),
                     first_patch = patches_before(begin, tile_rows) - tiles.begin * tile_patches,
                     num_patches =
                         patches_before(end, tile_rows) - patches_before(begin, tile_rows),
                     missing = num_tiles * tile_patches - first_patch - num_patches;
  const at::Tensor pixels = checked_pixels(context.batch, tiles);
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
    out.vision = out.vision.narrow(0, begin - tiles.begin * tile_rows, rows.own_size());
  return out;
}

}  // namespace gimbal
