// Decoding of encoded pictures to 8-bit RGB.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace gimbal {

/// Rows from top to bottom, pixels RGBRGB..., `width * height * 3` bytes.
struct Image {
  std::int64_t width = 0;
  std::int64_t height = 0;
  std::vector<std::uint8_t> rgb;
};

/// Decodes JPEG, PNG or WebP (told apart by their first bytes) as Pillow's `Image.open(..)` +
/// `exif_transpose` + `convert("RGB")` do: EXIF orientation applied, alpha dropped or composed as
/// Pillow does, grey and palette expanded, 16 bit reduced. A truncated or broken file throws
/// UserError that starts with `name` and says what is wrong.
Image decode_image(std::span<const std::byte> encoded, const std::string& name);

}  // namespace gimbal
