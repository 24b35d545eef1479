// The composition root: makes process group, model, store and data of a run out of a recipe.
// Nothing else knows all of them.
#pragma once

#include <filesystem>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "gimbal/config/recipe.h"
#include "gimbal/data/dataset.h"
#include "gimbal/models/model.h"
#include "gimbal/parallel/comm.h"
#include "gimbal/parallel/store.h"
#include "gimbal/tensor/image_processor.h"
#include "gimbal/train/data/step_plan.h"
#include "gimbal/train/trainer/parameter_groups.h"

namespace gimbal {

class Placement;

/// The machine side of a process: how it was started, its device, its group. Made once, shared by
/// all stages.
struct Runtime {
  LaunchInfo launch;
  at::Device device{at::kCPU};
  std::unique_ptr<CommWorld> groups;
  Comm* comm = nullptr;    // of all processes
  int num_placements = 0;  // made so far, on all ranks alike
  /// Exports of finished stages on rank 0, under way in threads that do not communicate.
  std::vector<std::future<void>> exports;

  bool is_main() const { return launch.rank == 0; }
};

/// Collective. Sets the process' thread count (`threads` 0: cores of the machine / processes on
/// it).
Runtime make_runtime(DeviceKind device, std::int64_t threads, double timeout_seconds);

/// What to change when several processes with so many threads each share too few cores; else
/// empty.
std::string threads_warning(std::int64_t processes, std::int64_t threads, std::int64_t cores);

at::ScalarType compute_dtype(DType dtype);
/// float64 for float64 runs, else float32.
at::ScalarType master_dtype(DType dtype);
/// Of an exported folder: bfloat16 for bfloat16 runs, else float32.
at::ScalarType export_dtype(DType dtype);

/// A model folder's model with its parameters in a store.
struct BuiltModel {
  Model model;
  std::filesystem::path folder;
  at::ScalarType compute;
  std::unique_ptr<ParameterStore> store;
};

/// Reads config.json of the folder. No values are loaded.
Model make_model_of_folder(const std::filesystem::path& folder, const Ports& ports = local_ports());
/// For evaluation and generation: weights loaded, nothing trainable. `placement`: how the model is
/// spread over the processes; must outlive what is returned. Null: every process has all of it.
BuiltModel load_model(const std::filesystem::path& folder, DType dtype, Runtime& runtime,
                      const Placement* placement = nullptr);

/// Throws UserError when the dataset was made for another tokenizer, image token or visual token
/// count than the model has.
void check_dataset_fits(const Dataset& dataset, const Model& model,
                        const std::filesystem::path& folder);

/// Throws UserError that names the ranks when the ranks do not all have the same value. Collective.
void check_same_on_all_ranks(Comm& comm, const std::string& value, const std::string& what);

/// `dataset` must outlive the options.
SamplerOptions sampler_options(const Recipe& recipe, const Dataset& dataset, const ModelDesc& desc);

}  // namespace gimbal
