#include "gimbal/train/export_run.h"

#include <algorithm>
#include <optional>
#include <system_error>
#include <vector>

#include "gimbal/base/error.h"
#include "gimbal/checkpoint/checkpoint_reader.h"
#include "gimbal/checkpoint/export_note.h"
#include "gimbal/checkpoint/hf_folder.h"
#include "gimbal/checkpoint/run_checkpoint.h"
#include "gimbal/checkpoint/sharded/publish.h"
#include "gimbal/config/load.h"

namespace gimbal {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kExportFileBytes = 5'000'000'000;

/// The folders of the stages with checkpoints; `run` itself when it has no stages, or none of them
/// has begun.
std::vector<fs::path> stage_folders(const fs::path& run) {
  std::vector<fs::path> folders;
  const fs::path list = run / "stages.json";
  if (fs::exists(list)) {
    const Json names = read_json(list);
    GIMBAL_USER_CHECK(names.is_array(), list.string(), ": is no list of the stages' names");
    for (const Json& name : names) {
      GIMBAL_USER_CHECK(name.is_string(), list.string(), ": is no list of the stages' names");
      const fs::path folder = run / name.get<std::string>();
      if (fs::exists(folder / "checkpoints")) folders.push_back(folder);
    }
  }
  if (folders.empty()) folders.push_back(run);
  return folders;
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

bool is_step_number(const std::string& text) {
  constexpr std::size_t kMostDigits = 18;  // of a number that certainly fits
  return !text.empty() && text.size() <= kMostDigits &&
         text.find_first_not_of("0123456789") == std::string::npos;
}

/// The checkpoint of the run that a step, a folder's name or a path names; steps and names are
/// those of the last stage. Nothing when there is none.
std::optional<fs::path> find_checkpoint(const std::vector<fs::path>& stages,
                                        const std::string& name) {
  const auto is_folder = [](const fs::path& path) {
    std::error_code error;
    return fs::is_directory(path, error);
  };
  if (is_step_number(name)) {
    const fs::path of_step = checkpoint_path(stages.back(), std::stoull(name));
    if (is_folder(of_step)) return of_step;
  }
  if (fs::path(name).filename() == name) {
    const fs::path of_name = stages.back() / "checkpoints" / name;
    if (is_folder(of_name)) return of_name;
  }
  if (!is_folder(name)) return std::nullopt;
  const fs::path path = fs::canonical(name);
  for (const fs::path& stage : stages) {
    const fs::path checkpoints = stage / "checkpoints";
    if (is_folder(checkpoints) && fs::equivalent(path.parent_path(), checkpoints))
      return checkpoints / path.filename();
  }
  return std::nullopt;
}

fs::path choose_checkpoint(const std::vector<fs::path>& stages, const std::string& name) {
  if (name.empty()) {
    const fs::path& folder = stages.back();
    GIMBAL_USER_CHECK(!fs::exists(folder / "index.json"), "'", folder.string(),
                      "' is a checkpoint, and not a run folder. Give the run folder, and this "
                      "with --checkpoint.");
    const auto latest = find_latest_checkpoint(folder);
    GIMBAL_USER_CHECK(latest, "run folder '", folder.string(),
                      "' has no complete checkpoint to export");
    return *latest;
  }
  const auto found = find_checkpoint(stages, name);
  const fs::path checkpoints = stages.back() / "checkpoints";
  GIMBAL_USER_CHECK(found, "--checkpoint '", name, "' is not in '", checkpoints.string(),
                    "', which has ", list_checkpoints(checkpoints),
                    ". Give a step (100), a name (step-00000100) or the folder's path.");
  verify_checkpoint(*found);
  return *found;
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
      [&](std::size_t i) { return reader.tensor(parameters[i]->name).to(dtype); }, kExportFileBytes,
      static_cast<std::int64_t>(reader.state().step));
}

ExportedRun export_run(const fs::path& run, const std::string& checkpoint, const fs::path& out) {
  const auto earlier = check_export_folder(out);
  const fs::path chosen = choose_checkpoint(stage_folders(run), checkpoint);
  const fs::path folder = chosen.parent_path().parent_path();  // of the stage
  const Recipe recipe = load_recipe(folder / "recipe.yaml", {}).front().recipe;
  const Model model = make_model_of_folder(recipe.model.path);
  export_checkpoint(chosen, model, export_dtype(recipe.model.dtype), recipe.model.path, out);
  ExportedRun exported{static_cast<std::int64_t>(CheckpointReader(chosen).state().step), {}};
  if (earlier) exported.replaced_step = earlier->step;
  return exported;
}

}  // namespace gimbal
