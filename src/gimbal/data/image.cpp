#include "gimbal/data/image.h"

#include <algorithm>
#include <cstring>
#include <string_view>

#include "gimbal/base/error.h"
#include "gimbal/data/image_formats.h"

namespace gimbal {
namespace {

constexpr std::uint64_t kMaxPixels = 178956970;

// The stored picture as it is meant to be seen (EXIF 2.3, tag 274). Orientations above 4 swap rows
// and columns.
Image oriented(Image stored, int orientation) {
  if (orientation == 1) return stored;
  const bool swap = orientation > 4;
  const std::int64_t width = stored.width;
  const std::int64_t height = stored.height;
  Image shown{swap ? height : width, swap ? width : height, {}};
  shown.rgb.resize(stored.rgb.size());
  // Position in the stored picture of the shown pixel (0, 0), and the steps to the next shown
  // column and row.
  const bool from_right =
      orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const bool from_bottom =
      orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  const std::int64_t origin =
      (from_bottom ? (height - 1) * width : 0) + (from_right ? width - 1 : 0);
  const std::int64_t along_x = from_right ? -1 : 1;
  const std::int64_t along_y = from_bottom ? -width : width;
  const std::int64_t column_step = swap ? along_y : along_x;
  const std::int64_t row_step = swap ? along_x : along_y;
  std::uint8_t* out = shown.rgb.data();
  for (std::int64_t y = 0; y < shown.height; ++y) {
    std::int64_t at = origin + y * row_step;
    for (std::int64_t x = 0; x < shown.width; ++x, at += column_step, out += 3) {
      std::memcpy(out, stored.rgb.data() + 3 * at, 3);
    }
  }
  return shown;
}

}  // namespace

void check_image_size(std::uint64_t width, std::uint64_t height, const std::string& name) {
  GIMBAL_USER_CHECK(width > 0 && height > 0, name, ": the picture has no pixels (", width, " x ",
                    height, ")");
  GIMBAL_USER_CHECK(width <= kMaxPixels / height, name, ": the picture says that it has ", width,
                    " x ", height, " pixels; more than ", kMaxPixels,
                    " are refused. Make it smaller, or leave it out.");
}

Image decode_image(std::span<const std::byte> encoded, const std::string& name) {
  const std::string_view head(reinterpret_cast<const char*>(encoded.data()),
                              std::min<std::size_t>(encoded.size(), 16));
  StoredImage stored;
  if (head.starts_with("\xff\xd8\xff")) {
    stored = decode_jpeg(encoded, name);
  } else if (head.starts_with("\x89PNG\r\n\x1a\n")) {
    stored = decode_png(encoded, name);
  } else if (head.starts_with("RIFF") && head.size() >= 12 && head.substr(8, 4) == "WEBP") {
    stored = decode_webp(encoded, name);
  } else {
    GIMBAL_USER_CHECK(!encoded.empty(), name, ": the file is empty");
    throw UserError(concat(name,
                           ": this is no JPEG, PNG or WebP picture (its first bytes are of another "
                           "kind, whatever the name says)"));
  }
  return oriented(std::move(stored.image), stored.orientation);
}

}  // namespace gimbal
