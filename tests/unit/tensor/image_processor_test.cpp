// Equality with transformers is tested in tests/python/images.
#include "gimbal/tensor/image_processor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gimbal/base/error.h"
#include "gimbal/tensor/image_resize.h"
#include "support/dataset_fixture.h"
#include "unit/base/temp_folder.h"
#include "unit/tensor/tensor_values.h"

namespace gimbal {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::make_picture;
using testing::message_of;
using testing::values_of;

ImageProcessorConfig small_config() {
  ImageProcessorConfig config;
  config.type = "GotOcr2ImageProcessor";
  config.height = 4;
  config.width = 6;
  config.crop_to_patches = true;
  config.image_mean = {0.5, 0.4, 0.3};
  config.image_std = {0.25, 0.5, 0.2};
  return config;
}

MediaRecord record_of(const Image& image, std::uint32_t columns, std::uint32_t rows) {
  MediaRecord media{};
  media.width = static_cast<std::uint32_t>(image.width);
  media.height = static_cast<std::uint32_t>(image.height);
  media.grid_columns = columns;
  media.grid_rows = rows;
  media.rows = columns * rows + (columns * rows > 1 ? 1 : 0);
  return media;
}

float normalised(std::uint8_t level, float mean, float std) {
  return (static_cast<float>(level * (1.0 / 255.0)) - mean) / std;
}

TEST(ImageProcessor, CutsTilesRowByRowAndAppendsTheThumbnail) {
  const ImageProcessor processor(small_config());
  const Image image = make_picture(12, 8);  // exactly 2 x 2 tiles: nothing is resized
  const at::Tensor tiles = processor.process(image, record_of(image, 2, 2));
  ASSERT_THAT(tiles.sizes().vec(), ElementsAre(5, 3, 4, 6));
  const std::vector<float> values = values_of<float>(tiles);
  const auto at = [&](int tile, int c, int y, int x) {
    return values[static_cast<std::size_t>(((tile * 3 + c) * 4 + y) * 6 + x)];
  };
  const auto pixel = [&](int c, int y, int x) {
    return image.rgb[static_cast<std::size_t>((y * 12 + x) * 3 + c)];
  };
  for (int y = 0; y < 4; ++y) {
    for (int x = 0; x < 6; ++x) {
      EXPECT_EQ(at(0, 0, y, x), normalised(pixel(0, y, x), 0.5F, 0.25F));
      EXPECT_EQ(at(1, 1, y, x), normalised(pixel(1, y, x + 6), 0.4F, 0.5F));
      EXPECT_EQ(at(2, 2, y, x), normalised(pixel(2, y + 4, x), 0.3F, 0.2F));
      EXPECT_EQ(at(3, 0, y, x), normalised(pixel(0, y + 4, x + 6), 0.5F, 0.25F));
    }
  }
  const Image thumbnail = resize_image(image, 6, 4, Resample::kBicubic);
  EXPECT_EQ(at(4, 1, 2, 3), normalised(thumbnail.rgb[(2 * 6 + 3) * 3 + 1], 0.4F, 0.5F));
}

TEST(ImageProcessor, NoTilesHasTheTileShape) {
  EXPECT_THAT(ImageProcessor(small_config()).no_tiles().sizes().vec(), ElementsAre(0, 3, 4, 6));
  EXPECT_THAT(ImageProcessor(ImageProcessorConfig{}).no_tiles().sizes().vec(),
              ElementsAre(0, 3, 0, 0));
}

TEST(ImageProcessor, RefusesWhatTheDatasetDoesNotSay) {
  const ImageProcessor processor(small_config());
  const Image image = make_picture(12, 8);
  MediaRecord media = record_of(image, 1, 1);
  media.width = 13;
  EXPECT_THAT(
      message_of<UserError>([&] { processor.process(image, media); }),
      AllOf(HasSubstr("12 x 8"), HasSubstr("13 x 8"), HasSubstr("changed since gimbal prepare")));
  media = record_of(image, 2, 1);
  media.rows = 2;  // no thumbnail
  EXPECT_THAT(message_of<UserError>([&] { processor.process(image, media); }),
              HasSubstr("a grid of 2 x 1 tiles in 2 rows"));

  ImageProcessorConfig config = small_config();
  config.crop_to_patches = false;
  EXPECT_THAT(
      message_of<UserError>([&] { ImageProcessor(config).process(image, record_of(image, 2, 1)); }),
      HasSubstr("a grid of 2 x 1 tiles"));
  config.do_resize = false;
  EXPECT_THAT(
      message_of<UserError>([&] { ImageProcessor(config).process(image, record_of(image, 1, 1)); }),
      HasSubstr("does not resize"));
  EXPECT_THAT(message_of<UserError>([&] {
                ImageProcessor(ImageProcessorConfig{}).process(image, record_of(image, 1, 1));
              }),
              HasSubstr("takes text only"));
}

TEST(ImageProcessor, RefusesAnUnusableConfiguration) {
  ImageProcessorConfig config = small_config();
  config.width = 0;
  EXPECT_THAT(message_of<UserError>([&] { ImageProcessor{config}; }),
              HasSubstr("must be positive"));
  config = small_config();
  config.resample = 6;
  EXPECT_THAT(message_of<UserError>([&] { ImageProcessor{config}; }), HasSubstr("resample 6"));
  config = small_config();
  config.image_std[1] = 0.0;
  EXPECT_THAT(message_of<UserError>([&] { ImageProcessor{config}; }), HasSubstr("image_std"));
}

TEST(ResizeImage, KeepsAFlatPictureFlatWithEveryFilter) {
  const Image flat{37, 23, std::vector<std::uint8_t>(37 * 23 * 3, 201)};
  for (int filter = 0; filter <= 5; ++filter) {
    for (const auto& [width, height] : {std::pair{5, 3}, {80, 70}, {37, 9}, {100, 23}, {1, 1}}) {
      const Image resized = resize_image(flat, width, height, static_cast<Resample>(filter));
      EXPECT_EQ(resized.rgb.size(), static_cast<std::size_t>(width * height * 3));
      EXPECT_THAT(resized.rgb, Each(201)) << filter;
    }
  }
}

TEST(ResizeImage, OfTheSameSizeIsACopy) {
  const Image image = make_picture(9, 5);
  EXPECT_EQ(resize_image(image, 9, 5, Resample::kLanczos).rgb, image.rgb);
}

}  // namespace
}  // namespace gimbal
