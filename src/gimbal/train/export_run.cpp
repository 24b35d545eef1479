#include "gimbal/train/export_run.h"

#include "gimbal/base/error.h"
#include "gimbal/checkpoint/run_checkpoint.h"
#include "gimbal/config/load.h"
#include "gimbal/train/weights.h"

namespace gimbal {
namespace {

/// The folder of the last stage with a checkpoint; `run` itself when it has no stages.
std::filesystem::path last_stage_folder(const std::filesystem::path& run) {
  if (!std::filesystem::exists(run / "stages.json")) return run;
  std::filesystem::path last = run;
  for (const Json& name : read_json(run / "stages.json")) {
    const std::filesystem::path folder = run / name.get<std::string>();
    if (std::filesystem::exists(folder / "checkpoints")) last = folder;
  }
  return last;
}

}  // namespace

std::int64_t export_run(const std::filesystem::path& run, const std::filesystem::path& out,
                        Runtime& runtime) {
  const bool replaceable =
      !std::filesystem::exists(out) ||
      (std::filesystem::is_directory(out) &&
       (std::filesystem::is_empty(out) || std::filesystem::exists(out / "config.json")));
  GIMBAL_USER_CHECK(replaceable, "--out '", out.string(),
                    "' exists and is no model folder; it is left alone. Choose a new folder.");
  const std::filesystem::path folder = last_stage_folder(run);
  const auto checkpoint = find_latest_checkpoint(folder);
  GIMBAL_USER_CHECK(checkpoint, "run folder '", folder.string(),
                    "' has no complete checkpoint to export");
  const Recipe recipe = load_recipe(folder / "recipe.yaml", {}).front().recipe;
  const Model model = make_model_of_folder(recipe.model.path);
  const auto store = make_replicated_store(
      model.blocks, *runtime.comm, master_dtype(recipe.model.dtype),
      compute_dtype(recipe.model.dtype), runtime.device, [](const Parameter&) { return 0; });
  const TrainingState state = load_checkpoint_weights(*checkpoint, store->shards());
  export_hf(model, *store, export_dtype(recipe.model.dtype), recipe.model.path, out);
  return static_cast<std::int64_t>(state.step);
}

}  // namespace gimbal
