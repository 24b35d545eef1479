// A dataset folder, mapped read-only (docs/dataset_format.md). Every access is O(1) and safe from
// many threads and processes.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gimbal/base/mapped_file.h"

namespace gimbal {

enum class Stream { kText = 0, kVision = 1, kAudio = 2 };
inline constexpr int kNumStreams = 3;
std::string_view stream_name(Stream stream);

/// One record of index.bin; the field order is the file's.
struct SampleRecord {
  std::uint64_t token_begin;
  std::uint64_t loss_span_begin;
  std::uint64_t media_begin;
  std::uint32_t num_tokens;
  std::uint32_t num_loss_tokens;
  std::uint32_t num_loss_spans;
  std::uint32_t num_media;
  std::uint32_t vision_rows;
  std::uint32_t audio_rows;
  std::uint32_t source;
  std::uint32_t source_line;
  std::uint32_t source_file;
  std::uint32_t status;
};
static_assert(sizeof(SampleRecord) == 64);

/// One record of media.bin.
struct MediaRecord {
  std::uint64_t path_begin;
  std::uint64_t byte_size;
  std::uint64_t content_hash;
  std::uint32_t path_length;
  std::uint32_t storage;  // 0 file, 1 blob
  std::uint32_t kind;     // 0 image
  std::uint32_t width;
  std::uint32_t height;
  std::uint32_t grid_columns;
  std::uint32_t grid_rows;
  std::uint32_t rows;
  std::uint64_t reserved;
};
static_assert(sizeof(MediaRecord) == 64);

/// Token positions [begin, end) of one assistant turn inside its sample.
struct LossSpan {
  std::uint32_t begin;
  std::uint32_t end;
};

/// The resolved image processor of the model folder, as the manifest holds it.
struct ImageProcessorConfig {
  std::string type;
  std::int64_t height = 0;
  std::int64_t width = 0;
  int resample = 3;  // Pillow's numbers: 0 nearest, 1 lanczos, 2 bilinear, 3 bicubic
  bool crop_to_patches = false;
  std::int64_t min_patches = 1;
  std::int64_t max_patches = 12;
  bool use_thumbnail = true;
  bool do_resize = true;
  bool do_rescale = true;
  double rescale_factor = 1.0 / 255.0;
  bool do_normalize = true;
  std::array<double, 3> image_mean{};
  std::array<double, 3> image_std{};
};

struct DatasetSource {
  std::string name;
  double weight = 1.0;
  std::uint64_t num_samples = 0;
  std::vector<std::string> files;
};

/// What the manifest says of the model folder that the data was made for.
struct DatasetModelInfo {
  std::string type;
  std::string folder;
  std::string tokenizer_sha256;
  std::string processor_sha256;
  std::int64_t image_token_id = -1;
  std::int64_t image_seq_length = 0;
  std::vector<std::int64_t> eos_token_ids;
  std::int64_t vocab_size = 0;
};

class Dataset {
 public:
  /// Maps the folder and checks sizes against the manifest. Throws UserError that names the file
  /// and what to do.
  explicit Dataset(const std::filesystem::path& folder);

  const std::filesystem::path& folder() const { return folder_; }
  std::size_t num_samples() const { return index_.size(); }
  const SampleRecord& sample(std::size_t i) const { return index_[i]; }
  std::span<const SampleRecord> samples() const { return index_; }
  std::span<const std::uint32_t> tokens(std::size_t i) const;
  std::span<const LossSpan> loss_spans(std::size_t i) const;
  std::span<const std::uint32_t> media_refs(std::size_t i) const;
  const MediaRecord& media(std::uint32_t item) const { return media_[item]; }

  /// The file of a media item, made absolute with the manifest's media root ("" for blobs).
  std::filesystem::path media_path(std::uint32_t item) const;
  /// The encoded bytes of a blob item.
  std::span<const std::byte> media_blob(std::uint32_t item) const;
  /// "sample 12 (digits, train.jsonl line 40)": how messages name a sample.
  std::string describe_sample(std::size_t i) const;

  const std::vector<DatasetSource>& sources() const { return sources_; }
  const DatasetModelInfo& model() const { return model_; }
  const ImageProcessorConfig& image_processor() const { return image_processor_; }
  /// SHA-256 values of the manifest joined: equal on all ranks when they map the same data.
  const std::string& fingerprint() const { return fingerprint_; }

 private:
  std::filesystem::path folder_;
  MappedFile index_file_, tokens_file_, spans_file_, refs_file_, media_file_, paths_file_,
      blobs_file_;
  std::span<const SampleRecord> index_;
  std::span<const std::uint32_t> tokens_;
  std::span<const LossSpan> spans_;
  std::span<const std::uint32_t> refs_;
  std::span<const MediaRecord> media_;
  std::filesystem::path media_root_;
  std::vector<DatasetSource> sources_;
  DatasetModelInfo model_;
  ImageProcessorConfig image_processor_;
  std::string fingerprint_;
};

}  // namespace gimbal
