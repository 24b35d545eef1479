// Writing a Hugging Face folder, and the fingerprints of its tokenizer and processor files.
#include <algorithm>
#include <array>
#include <cstdio>
#include <string_view>

#include "gimbal/base/error.h"
#include "gimbal/base/file.h"
#include "gimbal/base/json.h"
#include "gimbal/base/sha256.h"
#include "gimbal/checkpoint/export_note.h"
#include "gimbal/checkpoint/hf_folder.h"

namespace gimbal {
namespace {

namespace fs = std::filesystem;

// In the order of their names: the fingerprints depend on it.
constexpr std::array<std::string_view, 9> kTokenizerFiles{
    "added_tokens.json", "chat_template.jinja",     "chat_template.json",
    "merges.txt",        "special_tokens_map.json", "tokenizer.json",
    "tokenizer.model",   "tokenizer_config.json",   "vocab.json"};
constexpr std::array<std::string_view, 2> kProcessorFiles{"preprocessor_config.json",
                                                          "processor_config.json"};
constexpr std::array<std::string_view, 2> kOtherFiles{"generation_config.json",
                                                      "video_preprocessor_config.json"};

bool is_carried(const fs::path& path) {
  const std::string name = path.filename().string();
  const auto among = [&](const auto& files) {
    return std::find(files.begin(), files.end(), name) != files.end();
  };
  return among(kTokenizerFiles) || among(kProcessorFiles) || among(kOtherFiles) ||
         path.extension() == ".model";
}

void copy_carried_files(const fs::path& from, const fs::path& to) {
  std::error_code error;
  for (fs::directory_iterator it(from, error), end; !error && it != end; it.increment(error)) {
    if (!it->is_regular_file() || !is_carried(it->path())) continue;
    const std::string content = read_file(it->path());
    OutputFile file(to / it->path().filename());
    file.write(content.data(), content.size());
    file.close();
  }
  GIMBAL_USER_CHECK(!error, from.string(),
                    ": cannot list the folder that the tokenizer comes from: ", error.message());
}

// Tensors [begins[f], begins[f + 1]) go into file f.
std::vector<std::size_t> split_files(const std::vector<TensorSpec>& specs,
                                     std::int64_t shard_bytes) {
  std::vector<std::size_t> begins{0};
  std::int64_t bytes = 0;
  for (std::size_t i = 0; i < specs.size(); ++i) {
    if (i > begins.back() && bytes + specs[i].num_bytes() > shard_bytes) {
      begins.push_back(i);
      bytes = 0;
    }
    bytes += specs[i].num_bytes();
  }
  begins.push_back(specs.size());
  return begins;
}

std::string file_name(std::size_t file, std::size_t num_files) {
  if (num_files == 1) return "model.safetensors";
  char name[64];
  std::snprintf(name, sizeof(name), "model-%05zu-of-%05zu.safetensors", file + 1, num_files);
  return name;
}

void write_text(const fs::path& path, const std::string& text) {
  OutputFile file(path);
  file.write(text.data(), text.size());
  file.close();
}

void write_index(const fs::path& folder, const std::vector<TensorSpec>& specs,
                 const Json& weight_map) {
  std::int64_t bytes = 0, numel = 0;
  for (const TensorSpec& spec : specs) {
    bytes += spec.num_bytes();
    numel += spec.numel();
  }
  const Json index{{"metadata", {{"total_size", bytes}, {"total_parameters", numel}}},
                   {"weight_map", weight_map}};
  write_text(folder / "model.safetensors.index.json", index.dump(2) + "\n");
}

template <std::size_t N>
std::string files_sha256(const fs::path& folder, const std::array<std::string_view, N>& names) {
  Sha256 hash;
  for (const std::string_view name : names) {
    if (!fs::exists(folder / name)) continue;
    const std::string content = read_file(folder / name);
    hash.update(name.data(), name.size());
    hash.update("", 1);  // a zero byte
    hash.update(content.data(), content.size());
  }
  return hash.finish();
}

}  // namespace

void save_hf_folder(const fs::path& folder, const fs::path& origin, const std::string& config_json,
                    const std::vector<TensorSpec>& specs, const TensorSource& values,
                    std::int64_t shard_bytes, std::optional<std::int64_t> exported_step) {
  GIMBAL_CHECK(shard_bytes > 0, "files of ", shard_bytes, " bytes");
  AtomicFolder target(folder);
  const std::vector<std::size_t> begins = split_files(specs, shard_bytes);
  const std::size_t num_files = begins.size() - 1;
  Json weight_map = Json::object();
  for (std::size_t f = 0; f < num_files; ++f) {
    const std::string name = file_name(f, num_files);
    const std::vector<TensorSpec> part(specs.begin() + static_cast<std::ptrdiff_t>(begins[f]),
                                       specs.begin() + static_cast<std::ptrdiff_t>(begins[f + 1]));
    SafetensorsWriter writer(target.path() / name, part, {{"format", "pt"}});
    for (std::size_t i = begins[f]; i < begins[f + 1]; ++i) {
      writer.write(specs[i].name, values(i));
      weight_map[specs[i].name] = name;
    }
    writer.close();
  }
  if (num_files > 1) write_index(target.path(), specs, weight_map);
  write_text(target.path() / "config.json", config_json);
  copy_carried_files(origin, target.path());
  if (exported_step) write_export_note(target.path(), *exported_step);
  target.commit();
}

std::string tokenizer_sha256(const fs::path& folder) {
  return files_sha256(folder, kTokenizerFiles);
}

std::string processor_sha256(const fs::path& folder) {
  return files_sha256(folder, kProcessorFiles);
}

}  // namespace gimbal
