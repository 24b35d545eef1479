// JPEG by libjpeg-turbo. libjpeg reports errors by a callback that must not return; it jumps back
// to the nearest step function below. Those functions hold no C++ objects, so that nothing is
// skipped by the jump.
#include <csetjmp>
#include <cstdio>
#include <cstring>

// jpeglib.h needs FILE from <cstdio> before it.
#include <jpeglib.h>

#include "gimbal/base/error.h"
#include "gimbal/data/image_formats.h"

namespace gimbal {
namespace {

constexpr int kExifMarker = JPEG_APP0 + 1;

struct JpegErrors {
  jpeg_error_mgr manager;
  std::jmp_buf jump;
  bool ends_early;
  char message[JMSG_LENGTH_MAX];
};

struct JpegDecoder {
  jpeg_decompress_struct info{};
  JpegErrors errors{};
  jpeg_source_mgr source{};

  explicit JpegDecoder(std::span<const std::byte> encoded) {
    info.err = jpeg_std_error(&errors.manager);
    errors.manager.error_exit = [](j_common_ptr common) {
      auto* failed = reinterpret_cast<JpegErrors*>(common->err);
      failed->manager.format_message(common, failed->message);
      std::longjmp(failed->jump, 1);
    };
    // Warnings (recoverable damage) are passed over, as Pillow does.
    errors.manager.output_message = [](j_common_ptr) {};
    source.next_input_byte = reinterpret_cast<const JOCTET*>(encoded.data());
    source.bytes_in_buffer = encoded.size();
    source.init_source = [](j_decompress_ptr) {};
    source.term_source = [](j_decompress_ptr) {};
    source.resync_to_restart = jpeg_resync_to_restart;
    source.fill_input_buffer = [](j_decompress_ptr decompress) -> boolean {
      auto* failed = reinterpret_cast<JpegErrors*>(decompress->err);
      failed->ends_early = true;
      std::longjmp(failed->jump, 1);
    };
    source.skip_input_data = [](j_decompress_ptr decompress, long num_bytes) {
      if (num_bytes <= 0) return;
      jpeg_source_mgr* input = decompress->src;
      if (static_cast<std::size_t>(num_bytes) > input->bytes_in_buffer)
        input->fill_input_buffer(decompress);
      input->next_input_byte += num_bytes;
      input->bytes_in_buffer -= static_cast<std::size_t>(num_bytes);
    };
  }
  ~JpegDecoder() { jpeg_destroy_decompress(&info); }
  JpegDecoder(const JpegDecoder&) = delete;
  JpegDecoder& operator=(const JpegDecoder&) = delete;
};

// The steps: false when libjpeg has given up; the reason is in decoder.errors.

bool jpeg_read_head(JpegDecoder& decoder) {
  if (setjmp(decoder.errors.jump) != 0) return false;
  jpeg_create_decompress(&decoder.info);
  decoder.info.src = &decoder.source;
  jpeg_save_markers(&decoder.info, kExifMarker, 0xffff);
  jpeg_read_header(&decoder.info, TRUE);
  return true;
}

bool jpeg_start(JpegDecoder& decoder) {
  if (setjmp(decoder.errors.jump) != 0) return false;
  decoder.info.out_color_space = decoder.info.num_components == 4 ? JCS_CMYK : JCS_RGB;
  jpeg_start_decompress(&decoder.info);
  return true;
}

bool jpeg_read_row(JpegDecoder& decoder, JSAMPLE* row) {
  if (setjmp(decoder.errors.jump) != 0) return false;
  jpeg_read_scanlines(&decoder.info, &row, 1);
  return true;
}

bool jpeg_finish(JpegDecoder& decoder) {
  if (setjmp(decoder.errors.jump) != 0) return false;
  jpeg_finish_decompress(&decoder.info);
  return true;
}

[[noreturn]] void throw_jpeg_error(const JpegDecoder& decoder, const std::string& name) {
  const jpeg_decompress_struct& info = decoder.info;
  if (!decoder.errors.ends_early)
    throw UserError(concat(name, ": broken JPEG: ", decoder.errors.message));
  if (info.image_height == 0)
    throw UserError(concat(name, ": the JPEG ends early, inside its header"));
  throw UserError(concat(name, ": the JPEG ends early (row ", info.output_scanline, " of ",
                         info.image_height, ")"));
}

// Adobe's programs store CMYK inverted, and every reader takes CMYK JPEGs to be theirs. The
// products are rounded as Pillow's are.
void cmyk_to_rgb(const std::uint8_t* cmyk, std::int64_t num_pixels, std::uint8_t* rgb) {
  for (std::int64_t i = 0; i < num_pixels; ++i) {
    const int white = cmyk[4 * i + 3];  // 255 - (255 - stored)
    for (int c = 0; c < 3; ++c) {
      const int ink = 255 - cmyk[4 * i + c];
      const int product = ink * white + 128;
      rgb[3 * i + c] = static_cast<std::uint8_t>(white - (((product >> 8) + product) >> 8));
    }
  }
}

int jpeg_orientation(const jpeg_decompress_struct& info) {
  std::string exif;
  std::string xmp;
  constexpr std::string_view kExifHead("Exif\0\0", 6);
  constexpr std::string_view kXmpHead("http://ns.adobe.com/xap/1.0/\0", 29);
  for (const jpeg_marker_struct* marker = info.marker_list; marker != nullptr;
       marker = marker->next) {
    const std::string_view content(reinterpret_cast<const char*>(marker->data),
                                   marker->data_length);
    // A long EXIF block comes in several segments.
    if (content.starts_with(kExifHead)) exif += content.substr(kExifHead.size());
    if (content.starts_with(kXmpHead)) xmp = content.substr(kXmpHead.size());
  }
  return choose_orientation(std::as_bytes(std::span(exif)), xmp);
}

}  // namespace

StoredImage decode_jpeg(std::span<const std::byte> encoded, const std::string& name) {
  JpegDecoder decoder(encoded);
  const jpeg_decompress_struct& info = decoder.info;
  if (!jpeg_read_head(decoder)) throw_jpeg_error(decoder, name);
  check_image_size(info.image_width, info.image_height, name);
  GIMBAL_USER_CHECK(
      info.num_components == 1 || info.num_components == 3 || info.num_components == 4, name,
      ": a JPEG of ", info.num_components, " components is not supported (grey, RGB and CMYK are)");
  if (!jpeg_start(decoder)) throw_jpeg_error(decoder, name);

  StoredImage stored;
  stored.orientation = jpeg_orientation(info);
  stored.image.width = info.output_width;
  stored.image.height = info.output_height;
  const std::size_t row_bytes = 3 * static_cast<std::size_t>(info.output_width);
  stored.image.rgb.resize(row_bytes * info.output_height);
  std::vector<std::uint8_t> cmyk_row(
      info.num_components == 4 ? 4 * static_cast<std::size_t>(info.output_width) : 0);
  for (std::size_t y = 0; y < info.output_height; ++y) {
    std::uint8_t* rgb_row = stored.image.rgb.data() + y * row_bytes;
    if (!jpeg_read_row(decoder, cmyk_row.empty() ? rgb_row : cmyk_row.data()))
      throw_jpeg_error(decoder, name);
    if (!cmyk_row.empty()) cmyk_to_rgb(cmyk_row.data(), stored.image.width, rgb_row);
  }
  if (!jpeg_finish(decoder)) throw_jpeg_error(decoder, name);
  return stored;
}

}  // namespace gimbal
