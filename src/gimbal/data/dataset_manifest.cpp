#include "gimbal/data/dataset_manifest.h"

#include "gimbal/base/json.h"

namespace gimbal {
namespace {

constexpr std::int64_t kDatasetVersion = 1;

const Json& manifest_object(const Json& parent, const std::string& key, const std::string& where) {
  const auto it = parent.find(key);
  GIMBAL_USER_CHECK(it != parent.end() && it->is_object(), where, ": key '", key,
                    "' is missing or is no object");
  return *it;
}

DatasetManifest::Counts parse_counts(const Json& json, const std::string& where) {
  const auto get = [&](const char* key) {
    return json_get<std::uint64_t>(json, key, where + ": counts");
  };
  DatasetManifest::Counts counts;
  counts.samples = get("samples");
  counts.tokens = get("tokens");
  counts.loss_tokens = get("loss_tokens");
  counts.loss_spans = get("loss_spans");
  counts.vision_rows = get("vision_rows");
  counts.media_refs = get("media_refs");
  counts.media = get("media");
  return counts;
}

std::vector<DatasetSource> parse_sources(const Json& manifest, const std::string& where) {
  std::vector<DatasetSource> sources;
  for (const Json& json : json_get<std::vector<Json>>(manifest, "sources", where)) {
    const std::string place = where + ": sources[" + std::to_string(sources.size()) + "]";
    DatasetSource source;
    source.name = json_get<std::string>(json, "name", place);
    source.weight = json_get<double>(json, "weight", place);
    source.num_samples = json_get<std::uint64_t>(json, "samples", place);
    for (const Json& file : json_get<std::vector<Json>>(json, "files", place)) {
      source.files.push_back(json_get<std::string>(file, "path", place + ".files"));
    }
    sources.push_back(std::move(source));
  }
  return sources;
}

DatasetModelInfo parse_model(const Json& json, const std::string& manifest) {
  const std::string where = manifest + ": model";
  DatasetModelInfo model;
  model.type = json_get<std::string>(json, "type", where);
  model.folder = json_get_or<std::string>(json, "folder", "", where);
  model.tokenizer_sha256 = json_get_or<std::string>(json, "tokenizer_sha256", "", where);
  model.processor_sha256 = json_get_or<std::string>(json, "processor_sha256", "", where);
  model.image_token_id = json_get_or<std::int64_t>(json, "image_token_id", -1, where);
  model.image_seq_length = json_get_or<std::int64_t>(json, "image_seq_length", 0, where);
  model.eos_token_ids = json_get_or<std::vector<std::int64_t>>(json, "eos_token_ids", {}, where);
  model.vocab_size = json_get_or<std::int64_t>(json, "vocab_size", 0, where);
  return model;
}

ImageProcessorConfig parse_image_processor(const Json& json, const std::string& manifest) {
  const std::string where = manifest + ": image_processor";
  ImageProcessorConfig config;
  config.type = json_get<std::string>(json, "type", where);
  config.height = json_get<std::int64_t>(json, "height", where);
  config.width = json_get<std::int64_t>(json, "width", where);
  config.resample = json_get_or(json, "resample", config.resample, where);
  config.crop_to_patches = json_get_or(json, "crop_to_patches", config.crop_to_patches, where);
  config.min_patches = json_get_or(json, "min_patches", config.min_patches, where);
  config.max_patches = json_get_or(json, "max_patches", config.max_patches, where);
  config.use_thumbnail = json_get_or(json, "use_thumbnail", config.use_thumbnail, where);
  config.do_resize = json_get_or(json, "do_resize", config.do_resize, where);
  config.do_rescale = json_get_or(json, "do_rescale", config.do_rescale, where);
  config.rescale_factor = json_get_or(json, "rescale_factor", config.rescale_factor, where);
  config.do_normalize = json_get_or(json, "do_normalize", config.do_normalize, where);
  if (config.do_normalize) {
    config.image_mean = json_get<std::array<double, 3>>(json, "image_mean", where);
    config.image_std = json_get<std::array<double, 3>>(json, "image_std", where);
  }
  GIMBAL_USER_CHECK(json_get_or(json, "do_convert_rgb", true, where), where,
                    ": do_convert_rgb is false; Gimbal feeds RGB pictures only");
  return config;
}

}  // namespace

ImageProcessorConfig read_image_processor(const std::filesystem::path& json_file) {
  const Json json = read_json(json_file);
  return parse_image_processor(json.contains("image_processor") ? json["image_processor"] : json,
                               json_file.string());
}

DatasetManifest read_dataset_manifest(const std::filesystem::path& folder) {
  GIMBAL_USER_CHECK(std::filesystem::is_directory(folder), folder.string(),
                    ": no such dataset folder. Make it with gimbal prepare.");
  const std::filesystem::path path = folder / "manifest.json";
  GIMBAL_USER_CHECK(std::filesystem::exists(path), folder.string(),
                    ": manifest.json is missing, so this dataset folder is unfinished: run gimbal "
                    "prepare again.");
  const Json json = read_json(path);
  const std::string where = path.string();
  GIMBAL_USER_CHECK(json.is_object() && json.value("format", Json()) == "gimbal-dataset", where,
                    ": this is no manifest of a Gimbal dataset (key 'format')");
  const auto version = json_get<std::int64_t>(json, "version", where);
  GIMBAL_USER_CHECK(version == kDatasetVersion, where, ": format version ", version,
                    " is unknown; this Gimbal reads version ", kDatasetVersion,
                    ". Run gimbal prepare again with this Gimbal, or use the newer one.");

  DatasetManifest manifest;
  manifest.counts = parse_counts(manifest_object(json, "counts", where), where);
  manifest.sources = parse_sources(json, where);
  manifest.media_root = json_get_or<std::string>(json, "media_root", "", where);
  manifest.model = parse_model(manifest_object(json, "model", where), where);
  const auto processor = json.find("image_processor");
  // A text-only model has no image processor.
  if (processor != json.end() && !processor->is_null()) {
    manifest.image_processor = parse_image_processor(*processor, where);
  }
  for (const auto& [name, entry] : manifest_object(json, "files", where).items()) {
    const std::string place = where + ": files." + name;
    manifest.files[name] = {json_get<std::uint64_t>(entry, "bytes", place),
                            json_get<std::string>(entry, "sha256", place)};
  }
  return manifest;
}

}  // namespace gimbal
