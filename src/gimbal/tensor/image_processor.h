// Pictures to pixel tensors, equal to transformers' image processors (GotOcr2ImageProcessorPil for
// InternVL) bit for bit.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>

#include "gimbal/data/dataset.h"
#include "gimbal/data/image.h"
#include "gimbal/tensor/tile_range.h"

namespace gimbal {

/// Cuts, resizes, rescales and normalises. Stateless after construction; usable from many threads.
class ImageProcessor {
 public:
  /// Throws UserError when the configuration asks for something unknown. A configuration without a
  /// type (a text-only model) gives a processor that takes no pictures.
  explicit ImageProcessor(ImageProcessorConfig config);

  /// [I, 3, height, width] float32: the tiles row by row, then the thumbnail when the item has one.
  /// `media` tells the grid. Throws UserError (without the file's name) when the picture is not the
  /// one that `gimbal prepare` has seen.
  at::Tensor process(const Image& image, const MediaRecord& media) const;

  /// As process(), of the tiles `wanted` of the picture alone (at least one), into `out`, which has
  /// room for `wanted.size() * tile_values()` numbers.
  void process_into(const Image& image, const MediaRecord& media, TileRange wanted,
                    float* out) const;

  /// [0, 3, height, width].
  at::Tensor no_tiles() const;
  /// Numbers in one tile: 3 * height * width.
  std::int64_t tile_values() const { return 3 * config_.height * config_.width; }
  const ImageProcessorConfig& config() const { return config_; }

 private:
  void write_tile(const Image& canvas, std::int64_t left, std::int64_t top, float* out) const;

  ImageProcessorConfig config_;
  std::array<std::array<float, 256>, 3>
      values_{};  // per channel: the number that each 8-bit value becomes
};

}  // namespace gimbal
