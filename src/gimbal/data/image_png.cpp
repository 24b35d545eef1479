// PNG by libpng. Its errors jump back to the step functions below, which hold no C++ objects.
#include <png.h>

#include <csetjmp>
#include <cstring>

#include "gimbal/base/error.h"
#include "gimbal/data/image_formats.h"

namespace gimbal {
namespace {

struct PngDecoder {
  std::span<const std::byte> rest;
  bool ends_early = false;
  char message[256] = {};
  png_structp png = nullptr;
  png_infop info = nullptr;

  explicit PngDecoder(std::span<const std::byte> encoded) : rest(encoded) {
    png = png_create_read_struct(
        PNG_LIBPNG_VER_STRING, this,
        [](png_structp failed, png_const_charp text) {
          auto* self = static_cast<PngDecoder*>(png_get_error_ptr(failed));
          std::strncpy(self->message, text, sizeof(self->message) - 1);
          png_longjmp(failed, 1);
        },
        [](png_structp, png_const_charp) {});
    GIMBAL_CHECK(png != nullptr);
    info = png_create_info_struct(png);
    GIMBAL_CHECK(info != nullptr);
  }
  ~PngDecoder() { png_destroy_read_struct(&png, &info, nullptr); }
  PngDecoder(const PngDecoder&) = delete;
  PngDecoder& operator=(const PngDecoder&) = delete;
};

void png_take_bytes(png_structp png, png_bytep out, std::size_t size) {
  auto* self = static_cast<PngDecoder*>(png_get_io_ptr(png));
  if (size > self->rest.size()) {
    self->ends_early = true;
    png_error(png, "ends early");
  }
  std::memcpy(out, self->rest.data(), size);
  self->rest = self->rest.subspan(size);
}

bool png_read_head(PngDecoder& decoder) {
  if (setjmp(png_jmpbuf(decoder.png)) != 0) return false;
  png_set_read_fn(decoder.png, &decoder, png_take_bytes);
  // Small pieces, so that an error of a truncated file tells the row where it ends.
  png_set_compression_buffer_size(decoder.png, 1024);
  png_set_user_limits(decoder.png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
  png_read_info(decoder.png, decoder.info);
  return true;
}

// Rows come as RGB, but palette indices (8 bit) and 16-bit grey come as they are: both are expanded
// by Pillow's rules.
bool png_start(PngDecoder& decoder, int* num_passes) {
  if (setjmp(png_jmpbuf(decoder.png)) != 0) return false;
  const int color = png_get_color_type(decoder.png, decoder.info);
  const int depth = png_get_bit_depth(decoder.png, decoder.info);
  if (color == PNG_COLOR_TYPE_PALETTE) {
    png_set_packing(decoder.png);
  } else if (color != PNG_COLOR_TYPE_GRAY || depth != 16) {
    if (color == PNG_COLOR_TYPE_GRAY && depth < 8) png_set_expand_gray_1_2_4_to_8(decoder.png);
    if (depth == 16) png_set_strip_16(decoder.png);
    if ((color & PNG_COLOR_MASK_ALPHA) != 0) png_set_strip_alpha(decoder.png);
    if ((color & PNG_COLOR_MASK_COLOR) == 0) png_set_gray_to_rgb(decoder.png);
  }
  *num_passes = png_set_interlace_handling(decoder.png);
  png_read_update_info(decoder.png, decoder.info);
  return true;
}

bool png_read_one_row(PngDecoder& decoder, png_bytep row) {
  if (setjmp(png_jmpbuf(decoder.png)) != 0) return false;
  png_read_row(decoder.png, row, nullptr);
  return true;
}

// What follows the pixels may hold EXIF or XMP. All pixels are there, so damage here is passed
// over, as Pillow does.
void png_read_tail(PngDecoder& decoder) {
  if (setjmp(png_jmpbuf(decoder.png)) != 0) return;
  png_read_end(decoder.png, decoder.info);
}

[[noreturn]] void throw_png_error(const PngDecoder& decoder, std::int64_t row, std::int64_t height,
                                  const std::string& name) {
  if (!decoder.ends_early) throw UserError(concat(name, ": broken PNG: ", decoder.message));
  if (height == 0) throw UserError(concat(name, ": the PNG ends early, inside its header"));
  throw UserError(concat(name, ": the PNG ends early (row ", row, " of ", height, ")"));
}

// An index beyond the palette is black, as in Pillow.
void expand_palette(const PngDecoder& decoder, const std::vector<std::uint8_t>& indices,
                    std::vector<std::uint8_t>& rgb) {
  png_colorp palette = nullptr;
  int num_colors = 0;
  png_get_PLTE(decoder.png, decoder.info, &palette, &num_colors);
  for (std::size_t i = 0; i < indices.size(); ++i) {
    const png_color color = indices[i] < num_colors ? palette[indices[i]] : png_color{0, 0, 0};
    rgb[3 * i] = color.red;
    rgb[3 * i + 1] = color.green;
    rgb[3 * i + 2] = color.blue;
  }
}

// Pillow's convert("RGB") of 16-bit grey keeps values up to 255 and makes all others white;
// transformers therefore sees the same, and so does the trainer.
void clip_grey_16(const std::vector<std::uint8_t>& big_endian, std::vector<std::uint8_t>& rgb) {
  for (std::size_t i = 0; i < big_endian.size() / 2; ++i) {
    const std::uint8_t value = big_endian[2 * i] != 0 ? 255 : big_endian[2 * i + 1];
    std::memset(&rgb[3 * i], value, 3);
  }
}

// ImageMagick stores EXIF as text: a line "exif", a line with the length, then hexadecimal digits.
std::string parse_raw_profile(std::string_view text) {
  for (int line = 0; line < 3; ++line) {
    const std::size_t end = text.find('\n');
    if (end == std::string_view::npos) return {};
    text.remove_prefix(end + 1);
  }
  std::string bytes;
  int high = -1;
  for (const char c : text) {
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                             : -1;
    if (digit < 0) continue;
    if (high < 0) {
      high = digit;
    } else {
      bytes += static_cast<char>(16 * high + digit);
      high = -1;
    }
  }
  return bytes;
}

int png_orientation(const PngDecoder& decoder) {
  png_uint_32 exif_size = 0;
  png_bytep exif_bytes = nullptr;
  png_get_eXIf_1(decoder.png, decoder.info, &exif_size, &exif_bytes);
  std::string exif(reinterpret_cast<const char*>(exif_bytes), exif_size);
  std::string xmp;
  png_textp texts = nullptr;
  const int num_texts = png_get_text(decoder.png, decoder.info, &texts, nullptr);
  for (int i = 0; i < num_texts; ++i) {
    const std::string_view key(texts[i].key);
    const bool international = texts[i].compression >= PNG_ITXT_COMPRESSION_NONE;
    const std::string_view text(texts[i].text,
                                international ? texts[i].itxt_length : texts[i].text_length);
    if (key == "Raw profile type exif" && exif.empty()) exif = parse_raw_profile(text);
    if (key == "XML:com.adobe.xmp") xmp = text;
  }
  return choose_orientation(std::as_bytes(std::span(exif)), xmp);
}

}  // namespace

StoredImage decode_png(std::span<const std::byte> encoded, const std::string& name) {
  PngDecoder decoder(encoded);
  if (!png_read_head(decoder)) throw_png_error(decoder, 0, 0, name);
  const std::size_t width = png_get_image_width(decoder.png, decoder.info);
  const std::size_t height = png_get_image_height(decoder.png, decoder.info);
  check_image_size(width, height, name);
  const int color = png_get_color_type(decoder.png, decoder.info);
  const bool palette = color == PNG_COLOR_TYPE_PALETTE;
  const bool grey_16 =
      color == PNG_COLOR_TYPE_GRAY && png_get_bit_depth(decoder.png, decoder.info) == 16;
  int num_passes = 1;
  if (!png_start(decoder, &num_passes))
    throw_png_error(decoder, 0, static_cast<std::int64_t>(height), name);

  StoredImage stored;
  stored.image.width = static_cast<std::int64_t>(width);
  stored.image.height = static_cast<std::int64_t>(height);
  stored.image.rgb.resize(width * height * 3);
  const std::size_t pixel_bytes = palette ? 1 : grey_16 ? 2 : 3;
  std::vector<std::uint8_t> raw(pixel_bytes == 3 ? 0 : width * height * pixel_bytes);
  std::uint8_t* rows = pixel_bytes == 3 ? stored.image.rgb.data() : raw.data();
  GIMBAL_CHECK_EQ(png_get_rowbytes(decoder.png, decoder.info), width * pixel_bytes);
  for (int pass = 0; pass < num_passes; ++pass) {
    for (std::size_t y = 0; y < height; ++y) {
      if (!png_read_one_row(decoder, rows + y * width * pixel_bytes)) {
        throw_png_error(decoder, static_cast<std::int64_t>(y), stored.image.height, name);
      }
    }
  }
  if (palette) expand_palette(decoder, raw, stored.image.rgb);
  if (grey_16) clip_grey_16(raw, stored.image.rgb);
  png_read_tail(decoder);
  stored.orientation = png_orientation(decoder);
  return stored;
}

}  // namespace gimbal
