// The composition root: makes process group, model, store and data of a run out of a recipe.
// Nothing else knows all of them.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "gimbal/config/recipe.h"
#include "gimbal/data/dataset.h"
#include "gimbal/models/model.h"
#include "gimbal/parallel/comm.h"
#include "gimbal/parallel/store.h"
#include "gimbal/tensor/image_processor.h"
#include "gimbal/train/parameter_groups.h"
#include "gimbal/train/step_plan.h"

namespace gimbal {

/// The machine side of a process: how it was started, its device, its group. Made once, shared by
/// all stages.
struct Runtime {
  LaunchInfo launch;
  at::Device device{at::kCPU};
  std::unique_ptr<Comm> comm;

  bool is_main() const { return launch.rank == 0; }
};

/// Collective. Sets the process' thread count (`threads` 0: cores of the machine / processes on
/// it).
Runtime make_runtime(DeviceKind device, std::int64_t threads, double timeout_seconds);

at::ScalarType compute_dtype(DType dtype);
/// float64 for float64 runs, else float32.
at::ScalarType master_dtype(DType dtype);
/// Of an exported folder: bfloat16 for bfloat16 runs, else float32.
at::ScalarType export_dtype(DType dtype);

/// A model folder's model with all parameters in a replicated store.
struct BuiltModel {
  Model model;
  std::filesystem::path folder;
  at::ScalarType compute;
  std::unique_ptr<ParameterStore> store;
};

/// Reads config.json of the folder. No values are loaded.
Model make_model_of_folder(const std::filesystem::path& folder);
/// For evaluation and generation: weights loaded, nothing trainable.
BuiltModel load_model(const std::filesystem::path& folder, DType dtype, Runtime& runtime);

/// Throws UserError when the dataset was made for another tokenizer, image token or visual token
/// count than the model has.
void check_dataset_fits(const Dataset& dataset, const Model& model,
                        const std::filesystem::path& folder);

/// Throws UserError that names the ranks when the ranks do not all have the same value. Collective.
void check_same_on_all_ranks(Comm& comm, const std::string& value, const std::string& what);

/// `dataset` must outlive the options.
SamplerOptions sampler_options(const Recipe& recipe, const Dataset& dataset, const ModelDesc& desc);

}  // namespace gimbal
