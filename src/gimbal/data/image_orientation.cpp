// EXIF and XMP orientation: only the one tag that changes how a picture is shown.
#include <optional>

#include "gimbal/data/image_formats.h"

namespace gimbal {
namespace {

constexpr std::uint32_t kOrientationTag = 0x0112;
constexpr std::uint32_t kShort = 3;
constexpr std::uint32_t kLong = 4;

// A TIFF structure with bounds-checked reads in its own byte order.
class TiffReader {
 public:
  TiffReader(std::span<const std::byte> bytes, bool big_endian)
      : bytes_(bytes), big_endian_(big_endian) {}

  std::optional<std::uint32_t> read(std::size_t offset, std::size_t size) const {
    if (offset > bytes_.size() || size > bytes_.size() - offset) return std::nullopt;
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < size; ++i) {
      const std::size_t at = big_endian_ ? i : size - 1 - i;
      value = (value << 8) | std::to_integer<std::uint32_t>(bytes_[offset + at]);
    }
    return value;
  }

 private:
  std::span<const std::byte> bytes_;
  bool big_endian_;
};

bool starts_with(std::span<const std::byte> bytes, std::string_view text) {
  if (bytes.size() < text.size()) return false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (std::to_integer<char>(bytes[i]) != text[i]) return false;
  }
  return true;
}

}  // namespace

int exif_orientation(std::span<const std::byte> exif) {
  constexpr std::string_view kHead("Exif\0\0", 6);
  while (starts_with(exif, kHead)) exif = exif.subspan(kHead.size());
  const bool big_endian = starts_with(exif, std::string_view("MM\0*", 4));
  if (!big_endian && !starts_with(exif, std::string_view("II*\0", 4))) return 0;

  const TiffReader tiff(exif, big_endian);
  const std::size_t directory = tiff.read(4, 4).value_or(0);
  const std::uint32_t num_entries = directory == 0 ? 0 : tiff.read(directory, 2).value_or(0);
  for (std::size_t i = 0; i < num_entries; ++i) {
    const std::size_t entry = directory + 2 + 12 * i;
    const auto tag = tiff.read(entry, 2);
    if (!tag) return 0;
    if (*tag != kOrientationTag) continue;
    const std::uint32_t type = tiff.read(entry + 2, 2).value_or(0);
    if ((type != kShort && type != kLong) || tiff.read(entry + 4, 4) != 1U) return 0;
    return static_cast<int>(tiff.read(entry + 8, type == kShort ? 2 : 4).value_or(0));
  }
  return 0;
}

int xmp_orientation(std::string_view xmp) {
  constexpr std::string_view kKey = "tiff:Orientation";
  for (std::size_t at = xmp.find(kKey); at != std::string_view::npos; at = xmp.find(kKey, at + 1)) {
    std::string_view rest = xmp.substr(at + kKey.size());
    if (rest.starts_with("=\"")) {
      rest.remove_prefix(2);
    } else if (rest.starts_with(">")) {
      rest.remove_prefix(1);
    } else {
      continue;
    }
    if (!rest.empty() && rest[0] >= '0' && rest[0] <= '9') return rest[0] - '0';
  }
  return 0;
}

int choose_orientation(std::span<const std::byte> exif, std::string_view xmp) {
  int orientation = exif_orientation(exif);
  if (orientation == 0) orientation = xmp_orientation(xmp);
  return orientation >= 1 && orientation <= 8 ? orientation : 1;
}

}  // namespace gimbal
