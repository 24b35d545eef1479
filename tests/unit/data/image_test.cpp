// What needs no reference decoder. Equality with Pillow is tested in tests/python/images.
#include "gimbal/data/image.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <webp/encode.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include <jpeglib.h>

#include "gimbal/base/error.h"
#include "gimbal/data/image_formats.h"
#include "support/dataset_fixture.h"
#include "unit/base/temp_folder.h"

namespace gimbal {
namespace {

using ::testing::AllOf;
using testing::encode_png;
using ::testing::HasSubstr;
using testing::make_picture;
using testing::message_of;
using ::testing::StartsWith;

Image decode(const std::string& encoded, const std::string& name = "pictures/a") {
  return decode_image(std::as_bytes(std::span(encoded)), name);
}

std::string decode_error(const std::string& encoded) {
  return message_of<UserError>([&] { decode(encoded); });
}

// `image.rgb` holds `components` numbers a pixel.
std::string encode_jpeg(const Image& image, bool progressive = false, int components = 3) {
  jpeg_compress_struct info{};
  jpeg_error_mgr errors{};
  info.err = jpeg_std_error(&errors);
  jpeg_create_compress(&info);
  unsigned char* out = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&info, &out, &size);
  info.image_width = static_cast<JDIMENSION>(image.width);
  info.image_height = static_cast<JDIMENSION>(image.height);
  info.input_components = components;
  info.in_color_space = components == 3 ? JCS_RGB : JCS_UNKNOWN;
  jpeg_set_defaults(&info);
  if (progressive) jpeg_simple_progression(&info);
  jpeg_start_compress(&info, TRUE);
  while (info.next_scanline < info.image_height) {
    auto* row = const_cast<std::uint8_t*>(image.rgb.data()) +
                info.next_scanline * static_cast<std::size_t>(image.width * components);
    jpeg_write_scanlines(&info, &row, 1);
  }
  jpeg_finish_compress(&info);
  jpeg_destroy_compress(&info);
  std::string encoded(reinterpret_cast<const char*>(out), size);
  std::free(out);
  return encoded;
}

std::string encode_webp(const Image& image) {
  std::uint8_t* out = nullptr;
  const std::size_t size = WebPEncodeLosslessRGB(image.rgb.data(), static_cast<int>(image.width),
                                                 static_cast<int>(image.height),
                                                 static_cast<int>(image.width * 3), &out);
  std::string encoded(reinterpret_cast<const char*>(out), size);
  WebPFree(out);
  return encoded;
}

TEST(DecodeImage, LosslessFormatsGiveTheSamePixels) {
  const Image picture = make_picture(31, 17);
  for (const std::string& encoded : {encode_png(picture), encode_webp(picture)}) {
    const Image found = decode(encoded);
    EXPECT_EQ(found.width, 31);
    EXPECT_EQ(found.height, 17);
    EXPECT_EQ(found.rgb, picture.rgb);
  }
}

TEST(DecodeImage, JpegIsCloseToThePicture) {
  Image grey{40, 24, std::vector<std::uint8_t>(40 * 24 * 3, 100)};
  const Image found = decode(encode_jpeg(grey));
  ASSERT_EQ(found.rgb.size(), grey.rgb.size());
  for (const std::uint8_t value : found.rgb) EXPECT_NEAR(value, 100, 1);
}

TEST(DecodeImage, TruncatedFilesNameTheFileAndTheRow) {
  const std::string jpeg = encode_jpeg(make_picture(64, 64));
  EXPECT_THAT(decode_error(jpeg.substr(0, jpeg.size() / 2)),
              AllOf(StartsWith("pictures/a: "), HasSubstr("the JPEG ends early (row "),
                    HasSubstr(" of 64)")));
  EXPECT_THAT(decode_error(jpeg.substr(0, 100)),
              HasSubstr("the JPEG ends early, inside its header"));
  const std::string progressive = encode_jpeg(make_picture(64, 64), true);
  EXPECT_THAT(decode_error(progressive.substr(0, progressive.size() - 40)),
              HasSubstr("the JPEG ends early"));
  const std::string png = encode_png(make_picture(200, 200));
  EXPECT_THAT(decode_error(png.substr(0, png.size() / 2)),
              AllOf(StartsWith("pictures/a: "), HasSubstr("the PNG ends early (row "),
                    HasSubstr(" of 200)")));
  EXPECT_THAT(decode_error(png.substr(0, 20)), HasSubstr("the PNG ends early, inside its header"));
  const std::string webp = encode_webp(make_picture(64, 64));
  EXPECT_THAT(
      decode_error(webp.substr(0, webp.size() - 20)),
      AllOf(StartsWith("pictures/a: "), HasSubstr("the WebP ends early ("), HasSubstr("bytes)")));
}

TEST(DecodeImage, DamagedFilesSayWhatIsWrong) {
  std::string jpeg = encode_jpeg(make_picture(64, 64));
  jpeg[jpeg.find("\xff\xc0") + 4] = 99;  // bits per sample
  EXPECT_THAT(decode_error(jpeg), AllOf(StartsWith("pictures/a: broken JPEG: "), HasSubstr("99")));
  std::string png = encode_png(make_picture(64, 64));
  png[png.find("IDAT") + 10] = static_cast<char>(png[png.find("IDAT") + 10] ^ 0x55);
  EXPECT_THAT(decode_error(png), StartsWith("pictures/a: broken PNG: "));
  std::string webp = encode_webp(make_picture(64, 64));
  webp[20] = 0;  // the signature of lossless data
  EXPECT_THAT(decode_error(webp), StartsWith("pictures/a: broken WebP: "));
  webp = encode_webp(make_picture(64, 64));
  webp[18] = 1;  // chunk size, third byte
  EXPECT_THAT(decode_error(webp), HasSubstr("a chunk is longer than the file"));
}

TEST(DecodeImage, TwoComponentJpegIsRefused) {
  const std::string jpeg =
      encode_jpeg(Image{16, 24, std::vector<std::uint8_t>(16 * 24 * 2, 50)}, false, 2);
  EXPECT_THAT(decode_error(jpeg), HasSubstr("a JPEG of 2 components is not supported"));
}

TEST(DecodeImage, FilesOfOtherKinds) {
  EXPECT_THAT(decode_error("just some text"), HasSubstr("this is no JPEG, PNG or WebP picture"));
  EXPECT_THAT(decode_error("GIF89a.........."), HasSubstr("this is no JPEG, PNG or WebP picture"));
  EXPECT_THAT(decode_error(""), HasSubstr("the file is empty"));
}

TEST(DecodeImage, AbsurdSizesAreRefused) {
  EXPECT_THAT(message_of<UserError>([] { check_image_size(20000, 20000, "a.png"); }),
              AllOf(StartsWith("a.png: "), HasSubstr("20000 x 20000"), HasSubstr("refused")));
  EXPECT_THAT(message_of<UserError>([] { check_image_size(0, 5, "a.png"); }),
              HasSubstr("no pixels"));
  EXPECT_NO_THROW(check_image_size(13000, 13000, "a.png"));
  // A header alone: refused before any memory is taken for pixels.
  std::string jpeg = encode_jpeg(make_picture(16, 16));
  const std::size_t frame = jpeg.find("\xff\xc0");
  for (std::size_t i = 5; i < 9; ++i) jpeg[frame + i] = '\xf0';
  EXPECT_THAT(decode_error(jpeg), AllOf(HasSubstr("61680 x 61680"), HasSubstr("refused")));
}

TEST(ExifOrientation, ReadsBothByteOrdersAndSurvivesAnyCut) {
  const std::string little("II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0", 22);
  const std::string big("MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x08\0\0", 22);
  const auto orientation = [](const std::string& exif) {
    return exif_orientation(std::as_bytes(std::span(exif)));
  };
  EXPECT_EQ(orientation(little), 6);
  EXPECT_EQ(orientation(big), 8);
  EXPECT_EQ(orientation(std::string("Exif\0\0", 6) + little), 6);
  for (std::size_t size = 0; size < 20; ++size)
    EXPECT_EQ(orientation(little.substr(0, size)), 0) << size;
  EXPECT_EQ(orientation("no exif at all, but long enough"), 0);
}

TEST(ExifOrientation, XmpIsSecondChoice) {
  EXPECT_EQ(xmp_orientation("<a tiff:Orientation=\"3\"/>"), 3);
  EXPECT_EQ(xmp_orientation("<tiff:Orientation>5</tiff:Orientation>"), 5);
  EXPECT_EQ(xmp_orientation("<tiff:OrientationX>5<"), 0);
  EXPECT_EQ(xmp_orientation("tiff:Orientation=\""), 0);
  EXPECT_EQ(choose_orientation({}, "tiff:Orientation=\"9\""), 1);
  EXPECT_EQ(choose_orientation({}, ""), 1);
}

}  // namespace
}  // namespace gimbal
