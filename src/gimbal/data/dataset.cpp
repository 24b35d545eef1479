#include "gimbal/data/dataset.h"

#include "gimbal/base/error.h"
#include "gimbal/data/dataset_manifest.h"

namespace gimbal {
namespace {

constexpr const char* kDamaged = ". The dataset folder is damaged: run gimbal prepare again.";

// Whether [begin, begin + length) lies in [0, total), without overflow.
bool in_range(std::uint64_t begin, std::uint64_t length, std::uint64_t total) {
  return begin <= total && length <= total - begin;
}

MappedFile map_dataset_file(const std::filesystem::path& folder, const DatasetManifest& manifest,
                            const std::string& name) {
  const std::filesystem::path path = folder / name;
  const auto entry = manifest.files.find(name);
  GIMBAL_USER_CHECK(entry != manifest.files.end(), (folder / "manifest.json").string(), ": files.",
                    name, " is missing", kDamaged);
  GIMBAL_USER_CHECK(std::filesystem::exists(path), path.string(), " is missing", kDamaged);
  MappedFile file(path);
  GIMBAL_USER_CHECK(file.bytes().size() == entry->second.bytes, path.string(), " has ",
                    file.bytes().size(), " bytes, but the manifest says ", entry->second.bytes,
                    kDamaged);
  return file;
}

void check_count(const std::filesystem::path& folder, const char* what, std::uint64_t found,
                 std::uint64_t expected) {
  GIMBAL_USER_CHECK(found == expected, folder.string(), ": counts.", what, " is ", expected,
                    " in manifest.json, but the files hold ", found, kDamaged);
}

}  // namespace

std::string_view stream_name(Stream stream) {
  switch (stream) {
    case Stream::kText:
      return "text";
    case Stream::kVision:
      return "vision";
    case Stream::kAudio:
      return "audio";
  }
  throw_internal(__FILE__, __LINE__, "stream", "unknown stream");
}

Dataset::Dataset(const std::filesystem::path& folder) : folder_(folder) {
  DatasetManifest manifest = read_dataset_manifest(folder);
  const auto map = [&](const char* name) { return map_dataset_file(folder, manifest, name); };
  index_file_ = map("index.bin");
  tokens_file_ = map("tokens.bin");
  spans_file_ = map("loss_spans.bin");
  refs_file_ = map("media_refs.bin");
  media_file_ = map("media.bin");
  paths_file_ = map("media_paths.bin");
  if (manifest.files.contains("media_blobs.bin")) blobs_file_ = map("media_blobs.bin");
  index_ = index_file_.as<SampleRecord>();
  tokens_ = tokens_file_.as<std::uint32_t>();
  spans_ = spans_file_.as<LossSpan>();
  refs_ = refs_file_.as<std::uint32_t>();
  media_ = media_file_.as<MediaRecord>();

  sources_ = std::move(manifest.sources);
  model_ = std::move(manifest.model);
  image_processor_ = std::move(manifest.image_processor);
  media_root_ =
      manifest.media_root.is_absolute() ? manifest.media_root : folder_ / manifest.media_root;
  for (const auto& [name, file] : manifest.files) fingerprint_ += file.sha256;

  check_count(folder_, "samples", index_.size(), manifest.counts.samples);
  check_count(folder_, "tokens", tokens_.size(), manifest.counts.tokens);
  check_count(folder_, "loss_spans", spans_.size(), manifest.counts.loss_spans);
  check_count(folder_, "media_refs", refs_.size(), manifest.counts.media_refs);
  check_count(folder_, "media", media_.size(), manifest.counts.media);

  // One pass over the index: the sampler reads all of it anyway, and later accesses need no range
  // checks.
  std::uint64_t loss_tokens = 0;
  std::uint64_t vision_rows = 0;
  for (std::size_t i = 0; i < index_.size(); ++i) {
    const SampleRecord& record = index_[i];
    const bool valid = in_range(record.token_begin, record.num_tokens, tokens_.size()) &&
                       in_range(record.loss_span_begin, record.num_loss_spans, spans_.size()) &&
                       in_range(record.media_begin, record.num_media, refs_.size()) &&
                       record.status == 0 && record.num_loss_tokens <= record.num_tokens &&
                       record.source < sources_.size() &&
                       record.source_file < sources_[record.source].files.size();
    GIMBAL_USER_CHECK(valid, (folder_ / "index.bin").string(), ": record ", i,
                      " points outside of its files", kDamaged);
    loss_tokens += record.num_loss_tokens;
    vision_rows += record.vision_rows;
  }
  check_count(folder_, "loss_tokens", loss_tokens, manifest.counts.loss_tokens);
  check_count(folder_, "vision_rows", vision_rows, manifest.counts.vision_rows);
  for (std::size_t i = 0; i < media_.size(); ++i) {
    const MediaRecord& item = media_[i];
    const bool blob = item.storage == 1;
    const bool valid = item.storage <= 1 && item.kind == 0 &&
                       in_range(item.path_begin, blob ? item.byte_size : item.path_length,
                                blob ? blobs_file_.bytes().size() : paths_file_.bytes().size());
    GIMBAL_USER_CHECK(valid, (folder_ / "media.bin").string(), ": record ", i,
                      " points outside of its files", kDamaged);
  }
  for (std::size_t i = 0; i < refs_.size(); ++i) {
    GIMBAL_USER_CHECK(refs_[i] < media_.size(), (folder_ / "media_refs.bin").string(), ": entry ",
                      i, " is ", refs_[i], ", but there are ", media_.size(), " media items",
                      kDamaged);
  }
}

std::span<const std::uint32_t> Dataset::tokens(std::size_t i) const {
  GIMBAL_CHECK(i < index_.size(), "sample ", i);
  return tokens_.subspan(index_[i].token_begin, index_[i].num_tokens);
}

std::span<const LossSpan> Dataset::loss_spans(std::size_t i) const {
  GIMBAL_CHECK(i < index_.size(), "sample ", i);
  return spans_.subspan(index_[i].loss_span_begin, index_[i].num_loss_spans);
}

std::span<const std::uint32_t> Dataset::media_refs(std::size_t i) const {
  GIMBAL_CHECK(i < index_.size(), "sample ", i);
  return refs_.subspan(index_[i].media_begin, index_[i].num_media);
}

std::filesystem::path Dataset::media_path(std::uint32_t item) const {
  GIMBAL_CHECK(item < media_.size(), "media item ", item);
  const MediaRecord& record = media_[item];
  if (record.storage == 1) return {};
  const auto* begin = reinterpret_cast<const char*>(paths_file_.bytes().data()) + record.path_begin;
  return media_root_ / std::filesystem::path(std::string(begin, record.path_length));
}

std::span<const std::byte> Dataset::media_blob(std::uint32_t item) const {
  GIMBAL_CHECK(item < media_.size(), "media item ", item);
  GIMBAL_CHECK(media_[item].storage == 1, "media item ", item, " is a file, not a blob");
  return blobs_file_.bytes().subspan(media_[item].path_begin, media_[item].byte_size);
}

std::string Dataset::describe_sample(std::size_t i) const {
  GIMBAL_CHECK(i < index_.size(), "sample ", i);
  const SampleRecord& record = index_[i];
  const DatasetSource& source = sources_[record.source];
  return concat("sample ", i, " (", source.name, ", ",
                std::filesystem::path(source.files[record.source_file]).filename().string(),
                " line ", record.source_line, ")");
}

}  // namespace gimbal
