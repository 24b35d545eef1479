// Writes tiny dataset folders (docs/dataset_format.md) for tests. Fill it, change `manifest` at
// will, then write().
#pragma once

#include <png.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "gimbal/data/dataset.h"
#include "gimbal/data/image.h"

namespace gimbal::testing {

constexpr std::uint32_t kImageToken = 7;

/// A picture whose pixels depend on their place and on `seed`.
inline Image make_picture(std::int64_t width, std::int64_t height, int seed = 0) {
  Image image{width, height, {}};
  for (std::int64_t y = 0; y < height; ++y) {
    for (std::int64_t x = 0; x < width; ++x) {
      for (const std::int64_t value : {x * 9 + seed, y * 7 + seed * 31, x * y + 3 * seed}) {
        image.rgb.push_back(static_cast<std::uint8_t>(value % 256));
      }
    }
  }
  return image;
}

inline std::string encode_png(const Image& image) {
  png_image description{};
  description.version = PNG_IMAGE_VERSION;
  description.width = static_cast<png_uint_32>(image.width);
  description.height = static_cast<png_uint_32>(image.height);
  description.format = PNG_FORMAT_RGB;
  png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(description);
  std::string bytes(size, '\0');
  if (png_image_write_to_memory(&description, bytes.data(), &size, 0, image.rgb.data(), 0,
                                nullptr) == 0) {
    throw std::runtime_error(description.message);
  }
  bytes.resize(size);
  return bytes;
}

class DatasetFixture {
 public:
  /// An InternVL-like data set: 16 x 16 tiles, 4 image tokens (id kImageToken) a tile, up to 12
  /// tiles, vocabulary of 100.
  explicit DatasetFixture(std::filesystem::path folder) : folder_(std::move(folder)) {
    std::filesystem::create_directories(folder_);
    manifest = nlohmann::json::parse(R"({
      "format": "gimbal-dataset", "version": 1, "created_by": "test",
      "streams": {"text": "tokens", "vision": "tiles"},
      "sources": [{"name": "digits", "weight": 1.0, "rejected": 0, "files": [{"path": "data/train.jsonl"}]}],
      "model": {"type": "internvl", "folder": "model", "tokenizer_sha256": "t", "processor_sha256": "p",
                "image_token_id": 7, "image_seq_length": 4, "eos_token_ids": [2], "vocab_size": 100},
      "image_processor": {"type": "GotOcr2ImageProcessor", "height": 16, "width": 16, "resample": 3,
                          "crop_to_patches": true, "min_patches": 1, "max_patches": 12, "use_thumbnail": true,
                          "do_resize": true, "do_rescale": true, "rescale_factor": 0.00392156862745098,
                          "do_normalize": true, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.25, 0.5, 0.2]}
    })");
    manifest["media_root"] = folder_.string();
  }

  /// A picture file under `name`; returns its media number.
  std::uint32_t add_picture(const std::string& name, std::string_view encoded, const Image& shown,
                            std::uint32_t grid_columns = 1, std::uint32_t grid_rows = 1) {
    std::ofstream(folder_ / name, std::ios::binary) << encoded;
    const std::uint32_t item = add_media(shown, grid_columns, grid_rows);
    media.back().path_begin = paths_.size();
    media.back().path_length = static_cast<std::uint32_t>(name.size());
    media.back().byte_size = encoded.size();
    paths_ += name;
    return item;
  }
  std::uint32_t add_picture(const std::string& name, const Image& image,
                            std::uint32_t grid_columns = 1, std::uint32_t grid_rows = 1) {
    return add_picture(name, encode_png(image), image, grid_columns, grid_rows);
  }

  /// A picture inside media_blobs.bin.
  std::uint32_t add_blob(const Image& image, std::uint32_t grid_columns = 1,
                         std::uint32_t grid_rows = 1) {
    const std::string encoded = encode_png(image);
    const std::uint32_t item = add_media(image, grid_columns, grid_rows);
    media.back().storage = 1;
    media.back().path_begin = blobs_.size();
    media.back().byte_size = encoded.size();
    blobs_ += encoded;
    return item;
  }

  /// A sample as it is; counts follow from the arguments.
  void add_sample(const std::vector<std::uint32_t>& tokens, const std::vector<LossSpan>& spans = {},
                  const std::vector<std::uint32_t>& items = {}) {
    SampleRecord record{};
    record.token_begin = tokens_.size();
    record.loss_span_begin = spans_.size();
    record.media_begin = refs_.size();
    record.num_tokens = static_cast<std::uint32_t>(tokens.size());
    record.num_loss_spans = static_cast<std::uint32_t>(spans.size());
    record.num_media = static_cast<std::uint32_t>(items.size());
    for (const LossSpan& span : spans) record.num_loss_tokens += span.end - span.begin;
    for (const std::uint32_t item : items)
      record.vision_rows += item < media.size() ? media[item].rows : 0;
    record.source_line = static_cast<std::uint32_t>(samples.size() + 1);
    samples.push_back(record);
    tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
    spans_.insert(spans_.end(), spans.begin(), spans.end());
    refs_.insert(refs_.end(), items.begin(), items.end());
  }

  /// Writes all files; `counts` and `files` of the manifest are filled in, and then patched with
  /// `changes` (RFC 7386).
  std::filesystem::path write(const nlohmann::json& changes = nlohmann::json::object()) {
    std::uint64_t loss_tokens = 0;
    std::uint64_t vision_rows = 0;
    for (const SampleRecord& record : samples) {
      loss_tokens += record.num_loss_tokens;
      vision_rows += record.vision_rows;
    }
    manifest["counts"] = {{"samples", samples.size()},   {"rejected", 0},
                          {"tokens", tokens_.size()},    {"loss_tokens", loss_tokens},
                          {"loss_spans", spans_.size()}, {"vision_rows", vision_rows},
                          {"media_refs", refs_.size()},  {"media", media.size()}};
    manifest["sources"][0]["samples"] = samples.size();
    write_array("index.bin", samples.data(), samples.size() * sizeof(SampleRecord));
    write_array("tokens.bin", tokens_.data(), tokens_.size() * 4);
    write_array("loss_spans.bin", spans_.data(), spans_.size() * sizeof(LossSpan));
    write_array("media_refs.bin", refs_.data(), refs_.size() * 4);
    write_array("media.bin", media.data(), media.size() * sizeof(MediaRecord));
    write_array("media_paths.bin", paths_.data(), paths_.size());
    if (!blobs_.empty()) write_array("media_blobs.bin", blobs_.data(), blobs_.size());
    manifest.merge_patch(changes);
    std::ofstream(folder_ / "manifest.json") << manifest.dump(1);
    return folder_;
  }

  nlohmann::json manifest;
  std::vector<SampleRecord> samples;
  std::vector<MediaRecord> media;

 private:
  std::uint32_t add_media(const Image& shown, std::uint32_t grid_columns, std::uint32_t grid_rows) {
    MediaRecord record{};
    record.width = static_cast<std::uint32_t>(shown.width);
    record.height = static_cast<std::uint32_t>(shown.height);
    record.grid_columns = grid_columns;
    record.grid_rows = grid_rows;
    record.rows = grid_columns * grid_rows + (grid_columns * grid_rows > 1 ? 1 : 0);
    media.push_back(record);
    return static_cast<std::uint32_t>(media.size() - 1);
  }

  void write_array(const std::string& name, const void* data, std::size_t size_bytes) {
    std::ofstream(folder_ / name, std::ios::binary)
        .write(static_cast<const char*>(data), static_cast<std::streamsize>(size_bytes));
    manifest["files"][name] = {{"bytes", size_bytes}, {"sha256", "sha-of-" + name + ";"}};
  }

  std::filesystem::path folder_;
  std::vector<std::uint32_t> tokens_;
  std::vector<LossSpan> spans_;
  std::vector<std::uint32_t> refs_;
  std::string paths_;
  std::string blobs_;
};

}  // namespace gimbal::testing
