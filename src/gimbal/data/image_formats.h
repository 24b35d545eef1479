// The decoders behind decode_image, one per format, and what they share. Private to data/.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "gimbal/data/image.h"

namespace gimbal {

/// A picture as stored, and the EXIF orientation (1 to 8) that it has to be shown with.
struct StoredImage {
  Image image;
  int orientation = 1;
};

StoredImage decode_jpeg(std::span<const std::byte> encoded, const std::string& name);
StoredImage decode_png(std::span<const std::byte> encoded, const std::string& name);
StoredImage decode_webp(std::span<const std::byte> encoded, const std::string& name);

/// The orientation tag of an EXIF block (with or without the leading "Exif\0\0"); 0 when there is
/// none or it cannot be read.
int exif_orientation(std::span<const std::byte> exif);

/// The orientation that an XMP packet names; 0 when it names none.
int xmp_orientation(std::string_view xmp);

/// The first of EXIF, XMP that gives a usable orientation, else 1 (Pillow's order).
int choose_orientation(std::span<const std::byte> exif, std::string_view xmp);

/// Throws UserError when the picture has no pixels or more than 178,956,970, the number above which
/// Pillow refuses a picture.
void check_image_size(std::uint64_t width, std::uint64_t height, const std::string& name);

}  // namespace gimbal
