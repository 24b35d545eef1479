// WebP by libwebp. Of an animation the first frame is taken, on its canvas. The few container
// chunks that matter are read here: libwebp decodes one still picture and knows nothing of EXIF.
#include <webp/decode.h>

#include <string_view>

#include "gimbal/base/error.h"
#include "gimbal/data/image_formats.h"

namespace gimbal {
namespace {

constexpr std::size_t kRiffHeadBytes = 12;
constexpr std::size_t kChunkHeadBytes = 8;
constexpr std::size_t kFrameHeadBytes = 16;

std::uint32_t read_little_endian(std::span<const std::byte> bytes, std::size_t offset,
                                 std::size_t size) {
  std::uint32_t value = 0;
  for (std::size_t i = size; i-- > 0;)
    value = (value << 8) | std::to_integer<std::uint32_t>(bytes[offset + i]);
  return value;
}

struct WebpContainer {
  std::span<const std::byte> picture;  // what libwebp decodes
  std::span<const std::byte> exif;
  std::string_view xmp;
  bool animated = false;
  std::uint32_t canvas_width = 0, canvas_height = 0;  // of an animation
  std::uint32_t frame_x = 0, frame_y = 0;
};

WebpContainer read_webp_container(std::span<const std::byte> file, const std::string& name) {
  const std::size_t riff_bytes = read_little_endian(file, 4, 4) + std::size_t{8};
  GIMBAL_USER_CHECK(file.size() >= riff_bytes, name, ": the WebP ends early (", file.size(), " of ",
                    riff_bytes, " bytes)");
  WebpContainer container;
  container.picture = file;
  std::size_t at = kRiffHeadBytes;
  while (at + kChunkHeadBytes <= riff_bytes) {
    const std::string_view type(reinterpret_cast<const char*>(file.data()) + at, 4);
    const std::size_t size = read_little_endian(file, at + 4, 4);
    at += kChunkHeadBytes;
    GIMBAL_USER_CHECK(size <= riff_bytes - at, name,
                      ": broken WebP: a chunk is longer than the file");
    const auto content = file.subspan(at, size);
    if (type == "VP8X" && size >= 10) {
      container.canvas_width = read_little_endian(content, 4, 3) + 1;
      container.canvas_height = read_little_endian(content, 7, 3) + 1;
    } else if (type == "ANMF" && size > kFrameHeadBytes && !container.animated) {
      container.animated = true;
      container.picture = content.subspan(kFrameHeadBytes);
      container.frame_x = 2 * read_little_endian(content, 0, 3);
      container.frame_y = 2 * read_little_endian(content, 3, 3);
    } else if (type == "EXIF" && container.exif.empty()) {
      container.exif = content;
    } else if (type == "XMP " && container.xmp.empty()) {
      container.xmp = {reinterpret_cast<const char*>(content.data()), content.size()};
    }
    at += size + size % 2;  // chunks are padded to even sizes
  }
  return container;
}

const char* webp_reason(VP8StatusCode status) {
  switch (status) {
    case VP8_STATUS_OUT_OF_MEMORY:
      return "not enough memory";
    case VP8_STATUS_UNSUPPORTED_FEATURE:
      return "an unsupported feature";
    case VP8_STATUS_NOT_ENOUGH_DATA:
    case VP8_STATUS_SUSPENDED:
      return "its data end early";
    default:
      return "its data are damaged";
  }
}

}  // namespace

StoredImage decode_webp(std::span<const std::byte> encoded, const std::string& name) {
  const WebpContainer container = read_webp_container(encoded, name);
  const auto* data = reinterpret_cast<const std::uint8_t*>(container.picture.data());
  WebPDecoderConfig config;
  GIMBAL_CHECK(WebPInitDecoderConfig(&config) != 0);
  VP8StatusCode status = WebPGetFeatures(data, container.picture.size(), &config.input);
  GIMBAL_USER_CHECK(status == VP8_STATUS_OK, name, ": broken WebP: ", webp_reason(status));
  const auto width = static_cast<std::size_t>(config.input.width);
  const auto height = static_cast<std::size_t>(config.input.height);
  const std::size_t canvas_width = container.animated ? container.canvas_width : width;
  const std::size_t canvas_height = container.animated ? container.canvas_height : height;
  check_image_size(canvas_width, canvas_height, name);
  GIMBAL_USER_CHECK(
      container.frame_x + width <= canvas_width && container.frame_y + height <= canvas_height,
      name, ": broken WebP: a frame lies outside of the canvas");

  StoredImage stored;
  stored.orientation = choose_orientation(container.exif, container.xmp);
  stored.image.width = static_cast<std::int64_t>(canvas_width);
  stored.image.height = static_cast<std::int64_t>(canvas_height);
  stored.image.rgb.resize(canvas_width * canvas_height * 3);
  const std::size_t offset = (container.frame_y * canvas_width + container.frame_x) * 3;
  config.output.colorspace = MODE_RGB;
  config.output.is_external_memory = 1;
  config.output.u.RGBA.rgba = stored.image.rgb.data() + offset;
  config.output.u.RGBA.stride = static_cast<int>(canvas_width * 3);
  config.output.u.RGBA.size = stored.image.rgb.size() - offset;
  status = WebPDecode(data, container.picture.size(), &config);
  WebPFreeDecBuffer(&config.output);
  GIMBAL_USER_CHECK(status == VP8_STATUS_OK, name, ": broken WebP: ", webp_reason(status));
  return stored;
}

}  // namespace gimbal
