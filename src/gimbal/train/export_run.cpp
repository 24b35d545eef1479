#include "gimbal/train/export_run.h"

#include <algorithm>
#include <vector>

#include "gimbal/base/error.h"
#include "gimbal/checkpoint/checkpoint_reader.h"
#include "gimbal/checkpoint/hf_folder.h"
#include "gimbal/checkpoint/run_checkpoint.h"
#include "gimbal/config/load.h"

namespace gimbal {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kExportFileBytes = 5'000'000'000;

/// The folder of the last stage with a checkpoint; `run` itself when it has no stages.
fs::path last_stage_folder(const fs::path& run) {
  if (!fs::exists(run / "stages.json")) return run;
  fs::path last = run;
  for (const Json& name : read_json(run / "stages.json")) {
    const fs::path folder = run / name.get<std::string>();
    if (fs::exists(folder / "checkpoints")) last = folder;
  }
  return last;
}

std::string list_checkpoints(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  std::string list;
  for (const std::string& name : names) list += (list.empty() ? "" : ", ") + name;
  return list.empty() ? "nothing" : list;
}

fs::path choose_checkpoint(const fs::path& folder, const std::string& name) {
  if (name.empty()) {
    const auto latest = find_latest_checkpoint(folder);
    GIMBAL_USER_CHECK(latest, "run folder '", folder.string(),
                      "' has no complete checkpoint to export");
    return *latest;
  }
  const fs::path checkpoints = folder / "checkpoints";
  const bool is_there = fs::path(name).filename() == name && fs::is_directory(checkpoints / name);
  GIMBAL_USER_CHECK(is_there, "--checkpoint '", name, "' is not in '", checkpoints.string(),
                    "', which has ", list_checkpoints(checkpoints));
  verify_checkpoint(checkpoints / name);
  return checkpoints / name;
}

const std::vector<std::int64_t>& whole_shape(const Parameter& parameter) {
  return parameter.sharded_dim < 0 ? parameter.shape : parameter.full_shape;
}

void check_is_of_model(const CheckpointReader& reader,
                       const std::vector<ParameterPtr>& parameters) {
  const SavedTensors& saved = reader.index().parameters;
  const std::string where = reader.path().string();
  for (const ParameterPtr& parameter : parameters) {
    const auto it = saved.find(parameter->name);
    GIMBAL_USER_CHECK(it != saved.end(), where, ": has no '", parameter->name,
                      "'. The checkpoint is of another model.");
    GIMBAL_USER_CHECK(it->second.shape == whole_shape(*parameter), where, ": '", parameter->name,
                      "' has the shape ", at::IntArrayRef(it->second.shape),
                      ", the model asks for ", at::IntArrayRef(whole_shape(*parameter)),
                      ". The checkpoint is of another model.");
  }
  GIMBAL_USER_CHECK(saved.size() == parameters.size(), where, ": has ", saved.size(),
                    " parameters, the model has ", parameters.size(),
                    ". The checkpoint is of another model.");
}

}  // namespace

void export_checkpoint(const fs::path& checkpoint, const Model& model, at::ScalarType dtype,
                       const fs::path& origin, const fs::path& folder) {
  const CheckpointReader reader(checkpoint);
  const std::vector<ParameterPtr> parameters = model.parameters();
  check_is_of_model(reader, parameters);
  std::vector<TensorSpec> specs;
  for (const ParameterPtr& parameter : parameters)
    specs.push_back({model.hf_names.at(parameter->name), dtype, whole_shape(*parameter)});
  Json config = model.config;
  config["dtype"] = dtype == at::kBFloat16 ? "bfloat16" : "float32";
  config.erase("torch_dtype");
  save_hf_folder(
      folder, origin, config.dump(2) + "\n", specs,
      [&](std::size_t i) { return reader.tensor(parameters[i]->name).to(dtype); },
      kExportFileBytes);
}

std::int64_t export_run(const fs::path& run, const std::string& checkpoint, const fs::path& out) {
  const bool replaceable =
      !fs::exists(out) ||
      (fs::is_directory(out) && (fs::is_empty(out) || fs::exists(out / "config.json")));
  GIMBAL_USER_CHECK(replaceable, "--out '", out.string(),
                    "' exists and is no model folder; it is left alone. Choose a new folder.");
  const fs::path folder = last_stage_folder(run);
  const fs::path chosen = choose_checkpoint(folder, checkpoint);
  const Recipe recipe = load_recipe(folder / "recipe.yaml", {}).front().recipe;
  const Model model = make_model_of_folder(recipe.model.path);
  export_checkpoint(chosen, model, export_dtype(recipe.model.dtype), recipe.model.path, out);
  return static_cast<std::int64_t>(CheckpointReader(chosen).state().step);
}

}  // namespace gimbal
