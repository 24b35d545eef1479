// Resizing of 8-bit RGB pictures, bit for bit as Pillow's Image.resize: separable filters that
// widen when the picture shrinks (antialias), Pillow 13's order of the passes, 22-bit fixed-point
// weights, 8-bit values between the passes.
#pragma once

#include <cstdint>

#include "gimbal/data/image.h"

namespace gimbal {

/// Pillow's numbers.
enum class Resample {
  kNearest = 0,
  kLanczos = 1,
  kBilinear = 2,
  kBicubic = 3,
  kBox = 4,
  kHamming = 5
};

/// `image` in the new size; a copy when it has that size already.
Image resize_image(const Image& image, std::int64_t width, std::int64_t height, Resample resample);

}  // namespace gimbal
