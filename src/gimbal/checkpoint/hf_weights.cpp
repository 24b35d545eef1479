// Reading the weights of a Hugging Face folder.
#include <algorithm>
#include <utility>

#include "gimbal/base/error.h"
#include "gimbal/base/json.h"
#include "gimbal/checkpoint/hf_folder.h"
#include "gimbal/config/problems.h"

namespace gimbal {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kListedFiles = 12;

std::string list_files(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error))
    names.push_back(entry.path().filename().string());
  if (names.empty()) return "nothing";
  std::sort(names.begin(), names.end());
  std::string list;
  for (std::size_t i = 0; i < std::min(names.size(), kListedFiles); ++i)
    list += (i == 0 ? "" : ", ") + names[i];
  return names.size() > kListedFiles ? concat(list, " and ", names.size() - kListedFiles, " more")
                                     : list;
}

std::string shape_text(at::IntArrayRef shape) { return concat(shape); }

}  // namespace

HfWeights::HfWeights(const fs::path& folder) : folder_(folder) {
  GIMBAL_USER_CHECK(fs::is_directory(folder), folder.string(),
                    ": is no folder. A model folder with config.json and ",
                    "model.safetensors is expected.");
  const fs::path single = folder / "model.safetensors",
                 index = folder / "model.safetensors.index.json";
  if (fs::exists(single)) {
    files_.push_back(std::make_unique<SafetensorsReader>(single));
    for (const std::string& name : files_[0]->names()) file_of_[name] = 0;
  } else if (fs::exists(index)) {
    open_shards(index);
  } else {
    throw UserError(concat(folder.string(), ": has no weights. Expected model.safetensors, or ",
                           "model.safetensors.index.json with its files; found ",
                           list_files(folder),
                           ". Weights in other formats have to be saved as safetensors first."));
  }
}

void HfWeights::open_shards(const fs::path& index) {
  const auto weight_map =
      json_get<std::map<std::string, std::string>>(read_json(index), "weight_map", index.string());
  std::map<std::string, std::size_t> number_of;
  for (const auto& [name, file] : weight_map) {
    GIMBAL_USER_CHECK(!file.empty() && fs::path(file).filename() == file, index.string(),
                      ": tensor '", name, "' is said to be in '", file,
                      "', which is no plain file name");
    const auto [it, is_new] = number_of.emplace(file, files_.size());
    if (is_new) {
      GIMBAL_USER_CHECK(fs::exists(folder_ / file), (folder_ / file).string(),
                        ": is missing, although ", index.filename().string(),
                        " names it. Copy or download the folder again.");
      files_.push_back(std::make_unique<SafetensorsReader>(folder_ / file));
    }
    GIMBAL_USER_CHECK(files_[it->second]->contains(name), (folder_ / file).string(),
                      ": has no tensor '", name, "', although ", index.filename().string(),
                      " says so. Copy or download the folder again.");
    file_of_[name] = it->second;
  }
}

bool HfWeights::contains(const std::string& name) const { return file_of_.count(name) > 0; }

at::Tensor HfWeights::tensor(const std::string& name) const {
  const auto it = file_of_.find(name);
  GIMBAL_USER_CHECK(it != file_of_.end(), folder_.string(), ": has no tensor '", name, "'");
  return files_[it->second]->tensor(name);
}

std::vector<std::string> HfWeights::names() const {
  std::vector<std::string> out;
  for (const auto& [name, file] : file_of_) out.push_back(name);
  return out;
}

at::Tensor find_weight(const HfWeights& weights, const std::string& name,
                       const std::vector<std::string>& aliases,
                       const std::vector<std::int64_t>& shape, const std::string& folder) {
  const std::string* found = weights.contains(name) ? &name : nullptr;
  for (const std::string& alias : aliases) {
    if (found == nullptr && weights.contains(alias)) found = &alias;
  }
  if (found == nullptr) {
    std::string also;
    for (const std::string& alias : aliases)
      also += concat(also.empty() ? " (nor '" : ", '", alias, "'");
    const std::vector<std::string> names = weights.names();
    const std::string near = nearest(name, names);
    throw UserError(concat(folder, ": has no weight '", name, "'", also, also.empty() ? "" : ")",
                           " among its ", names.size(), " tensors. ",
                           near.empty() ? std::string("No other name is near it")
                                        : concat("The nearest name is '", near, "'"),
                           ". Check that config.json and the weights are of the same model."));
  }
  at::Tensor tensor = weights.tensor(*found);
  GIMBAL_USER_CHECK(tensor.sizes() == at::IntArrayRef(shape), folder, ": weight '", *found,
                    "' has the shape ", shape_text(tensor.sizes()), ", config.json asks for ",
                    shape_text(shape),
                    ". Check that config.json and the weights are of the same model.");
  GIMBAL_USER_CHECK(
      at::isFloatingType(tensor.scalar_type()), folder, ": weight '", *found, "' holds ",
      safetensors_dtype(tensor.scalar_type()),
      ". Weights have to be floating-point numbers; quantized folders are not supported.");
  return tensor;
}

}  // namespace gimbal
