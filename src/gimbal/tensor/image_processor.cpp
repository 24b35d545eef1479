#include "gimbal/tensor/image_processor.h"

#include <ATen/ops/empty.h>

#include <algorithm>

#include "gimbal/base/error.h"
#include "gimbal/tensor/image_resize.h"

namespace gimbal {

ImageProcessor::ImageProcessor(ImageProcessorConfig config) : config_(std::move(config)) {
  if (config_.type.empty()) return;
  const std::string where = "image_processor (" + config_.type + ")";
  GIMBAL_USER_CHECK(config_.height > 0 && config_.width > 0, where, ": height ", config_.height,
                    " and width ", config_.width, " must be positive");
  GIMBAL_USER_CHECK(config_.resample >= 0 && config_.resample <= 5, where, ": resample ",
                    config_.resample, " is none of Pillow's filters (0 to 5)");
  for (std::size_t c = 0; c < 3; ++c) {
    GIMBAL_USER_CHECK(!config_.do_normalize || config_.image_std[c] > 0.0, where,
                      ": image_std must be positive");
    const auto mean = static_cast<float>(config_.image_mean[c]);
    const auto std = static_cast<float>(config_.image_std[c]);
    for (std::size_t level = 0; level < 256; ++level) {
      // transformers rescales in float64, rounds to float32, and normalises in float32.
      auto value = static_cast<float>(level);
      if (config_.do_rescale)
        value = static_cast<float>(static_cast<double>(level) * config_.rescale_factor);
      if (config_.do_normalize) value = (value - mean) / std;
      values_[c][level] = value;
    }
  }
}

at::Tensor ImageProcessor::no_tiles() const {
  return at::empty({0, 3, config_.height, config_.width}, at::kFloat);
}

at::Tensor ImageProcessor::process(const Image& image, const MediaRecord& media) const {
  at::Tensor tiles_ICYX = at::empty({media.rows, 3, config_.height, config_.width}, at::kFloat);
  process_into(image, media, {0, media.rows}, tiles_ICYX.mutable_data_ptr<float>());
  return tiles_ICYX;
}

void ImageProcessor::process_into(const Image& image, const MediaRecord& media, TileRange wanted,
                                  float* out) const {
  GIMBAL_USER_CHECK(!config_.type.empty(),
                    "a picture, but the model of this dataset takes text only");
  GIMBAL_USER_CHECK(image.width == media.width && image.height == media.height, "the picture has ",
                    image.width, " x ", image.height, " pixels, but the dataset says ", media.width,
                    " x ", media.height,
                    ": changed since gimbal prepare. Run gimbal prepare again.");
  const std::int64_t columns = media.grid_columns;
  const std::int64_t rows = media.grid_rows;
  const bool cut = config_.crop_to_patches && config_.max_patches > 1;
  const bool thumbnail = cut && config_.use_thumbnail && columns * rows > 1;
  GIMBAL_USER_CHECK(
      columns >= 1 && rows >= 1 && (cut || columns * rows == 1) &&
          media.rows == columns * rows + (thumbnail ? 1 : 0),
      "a grid of ", columns, " x ", rows, " tiles in ", media.rows,
      " rows does not follow from the image processor of this dataset. Run gimbal prepare again.");

  const std::int64_t height = config_.height;
  const std::int64_t width = config_.width;
  const auto resample = static_cast<Resample>(config_.resample);
  if (!cut && !config_.do_resize) {
    GIMBAL_USER_CHECK(image.width == width && image.height == height, "the picture has ",
                      image.width, " x ", image.height,
                      " pixels; the image processor does not resize (do_resize) and wants ", width,
                      " x ", height);
  }
  GIMBAL_CHECK(0 <= wanted.begin && wanted.begin < wanted.end && wanted.end <= media.rows,
               "tiles [", wanted.begin, ", ", wanted.end, ") of a picture of ", media.rows);
  const std::int64_t num_cut = columns * rows;
  if (wanted.begin < num_cut) {
    const Image canvas = resize_image(image, columns * width, rows * height, resample);
    const std::int64_t end = std::min(wanted.end, num_cut);
    for (std::int64_t tile = wanted.begin; tile < end; ++tile, out += tile_values())
      write_tile(canvas, tile % columns * width, tile / columns * height, out);
  }
  if (wanted.end > num_cut) write_tile(resize_image(image, width, height, resample), 0, 0, out);
}

void ImageProcessor::write_tile(const Image& canvas, std::int64_t left, std::int64_t top,
                                float* out) const {
  const std::int64_t plane = config_.height * config_.width;
  for (std::int64_t y = 0; y < config_.height; ++y, out += config_.width) {
    const std::uint8_t* rgb = canvas.rgb.data() + ((top + y) * canvas.width + left) * 3;
    for (std::int64_t x = 0; x < config_.width; ++x, rgb += 3) {
      out[x] = values_[0][rgb[0]];
      out[plane + x] = values_[1][rgb[1]];
      out[2 * plane + x] = values_[2][rgb[2]];
    }
  }
}

}  // namespace gimbal
