// Saving and loading one training checkpoint.
#include "gimbal/checkpoint/run_checkpoint.h"

#include <ATen/TensorOperators.h>
#include <c10/core/GradMode.h>

#include <cstdio>
#include <set>
#include <utility>

#include "gimbal/base/error.h"
#include "gimbal/base/file.h"
#include "gimbal/base/mapped_file.h"
#include "gimbal/base/sha256.h"
#include "gimbal/checkpoint/safetensors.h"

namespace gimbal {
namespace {

namespace fs = std::filesystem;

constexpr int kCheckpointVersion = 1;
constexpr char kModelFile[] = "model.safetensors";
constexpr char kOptimizerFile[] = "optimizer.safetensors";
constexpr char kStateFile[] = "state.json";

// A tensor of a checkpoint and its place in memory, shaped like the parameter.
struct NamedTensor {
  std::string name;
  at::Tensor place;
};

at::Tensor parameter_view(const at::Tensor& flat, const FlatShard::Slice& slice) {
  return flat.detach()
      .narrow(0, slice.offset, slice.parameter->numel())
      .view(slice.parameter->shape);
}

std::vector<NamedTensor> model_tensors(const std::vector<FlatShard>& shards) {
  std::vector<NamedTensor> out;
  for (const FlatShard& shard : shards) {
    for (const auto& slice : shard.slices)
      out.push_back({slice.parameter->name, parameter_view(shard.values, slice)});
  }
  return out;
}

std::vector<NamedTensor> optimizer_tensors(const std::vector<FlatShard>& shards,
                                           const std::vector<OptimizerTensors>& optimizer) {
  std::vector<NamedTensor> out;
  for (const OptimizerTensors& kind : optimizer) {
    GIMBAL_CHECK_EQ(kind.per_shard.size(), shards.size(), "optimizer tensors and shards");
    for (std::size_t s = 0; s < shards.size(); ++s) {
      const at::Tensor& flat = kind.per_shard[s];
      if (!flat.defined()) continue;
      GIMBAL_CHECK_EQ(flat.numel(), shards[s].values.numel(), "layout of ", kind.name);
      for (const auto& slice : shards[s].slices) {
        out.push_back({slice.parameter->name + "." + kind.name, parameter_view(flat, slice)});
      }
    }
  }
  return out;
}

void write_tensors(const fs::path& path, const std::vector<NamedTensor>& tensors) {
  std::vector<TensorSpec> specs;
  for (const auto& [name, place] : tensors)
    specs.push_back({name, place.scalar_type(), place.sizes().vec()});
  SafetensorsWriter writer(path, specs, {{"format", "pt"}});
  for (const auto& [name, place] : tensors) writer.write(name, place);
  writer.close();
}

// Throws before anything is copied.
void check_tensors(const SafetensorsReader& reader, const fs::path& path,
                   const std::vector<NamedTensor>& tensors) {
  std::set<std::string> known;
  for (const auto& [name, place] : tensors) {
    known.insert(name);
    GIMBAL_USER_CHECK(reader.contains(name), path.string(), ": has no '", name,
                      "'. The checkpoint is of another model, or other parameters were frozen; "
                      "start a new run folder.");
    const at::Tensor saved = reader.tensor(name);
    GIMBAL_USER_CHECK(saved.sizes() == place.sizes(), path.string(), ": '", name,
                      "' has the shape ", saved.sizes(), ", the model asks for ", place.sizes(),
                      ". The checkpoint is of another model.");
    GIMBAL_USER_CHECK(saved.scalar_type() == place.scalar_type(), path.string(), ": '", name,
                      "' is ", safetensors_dtype(saved.scalar_type()), ", this run keeps ",
                      safetensors_dtype(place.scalar_type()),
                      ". Go on with the model.dtype that the run began with.");
  }
  for (const std::string& name : reader.names()) {
    GIMBAL_USER_CHECK(known.count(name) > 0, path.string(), ": has '", name,
                      "', which this run has no place for. The checkpoint is of another model, or "
                      "other parameters were "
                      "frozen; start a new run folder.");
  }
}

void copy_tensors(const SafetensorsReader& reader, const std::vector<NamedTensor>& tensors) {
  const c10::AutoGradMode no_grad(false);
  for (const auto& [name, place] : tensors) place.copy_(reader.tensor(name));
}

// Of everything else in state.json, so that a changed digit in it is found too.
std::string state_sha256(Json json) {
  json.erase("sha256");
  return sha256_of(json.dump());
}

// Any other problem than absence shows when the file is read.
void check_is_there(const fs::path& path) {
  std::error_code error;
  GIMBAL_USER_CHECK(fs::exists(path, error) || error, path.string(),
                    ": is missing, so the checkpoint is incomplete");
}

}  // namespace

fs::path save_checkpoint(const fs::path& run_folder, const TrainingState& state,
                         const std::vector<FlatShard>& shards,
                         const std::vector<OptimizerTensors>& optimizer) {
  char name[32];
  std::snprintf(name, sizeof(name), "step-%08llu", static_cast<unsigned long long>(state.step));
  const fs::path path = run_folder / "checkpoints" / name;
  AtomicFolder folder(path);
  write_tensors(folder.path() / kModelFile, model_tensors(shards));
  write_tensors(folder.path() / kOptimizerFile, optimizer_tensors(shards, optimizer));
  Json json{
      {"format", "gimbal-checkpoint"}, {"version", kCheckpointVersion}, {"state", to_json(state)}};
  for (const char* file : {kModelFile, kOptimizerFile}) {
    json["files"][file] = {{"bytes", fs::file_size(folder.path() / file)},
                           {"sha256", sha256_of_file(folder.path() / file)}};
  }
  json["sha256"] = state_sha256(json);
  const std::string text = json.dump(2) + "\n";
  OutputFile file(folder.path() / kStateFile);
  file.write(text.data(), text.size());
  file.close();
  folder.commit();
  return path;
}

TrainingState verify_checkpoint(const fs::path& checkpoint) {
  const fs::path path = checkpoint / kStateFile;
  const std::string where = path.string();
  check_is_there(path);
  const Json json = read_json(path);
  GIMBAL_USER_CHECK(json.is_object() && json.value("format", Json()) == "gimbal-checkpoint", where,
                    ": is no state of a checkpoint");
  const int version = json_get<int>(json, "version", where);
  GIMBAL_USER_CHECK(version == kCheckpointVersion, where, ": has format version ", version,
                    ", this program reads version ", kCheckpointVersion,
                    ". Use the Gimbal that wrote it.");
  GIMBAL_USER_CHECK(
      json_get<std::string>(json, "sha256", where) == state_sha256(json), where,
      ": its content does not match its checksum; the file was changed or is damaged");
  const Json files = json_get<Json>(json, "files", where);
  for (const char* name : {kModelFile, kOptimizerFile}) {
    const Json entry = json_get<Json>(files, name, where);
    const fs::path file = checkpoint / name;
    check_is_there(file);
    const auto expected = json_get<std::uint64_t>(entry, "bytes", where);
    const std::size_t bytes = MappedFile(file).bytes().size();
    GIMBAL_USER_CHECK(bytes == expected, file.string(), ": has ", bytes, " bytes instead of ",
                      expected, "; the file is damaged or incomplete");
    GIMBAL_USER_CHECK(sha256_of_file(file) == json_get<std::string>(entry, "sha256", where),
                      file.string(),
                      ": its content does not match its checksum; the file is damaged");
  }
  return training_state_from_json(json_get<Json>(json, "state", where), where);
}

TrainingState load_checkpoint(const fs::path& checkpoint, const std::vector<FlatShard>& shards,
                              const std::vector<OptimizerTensors>& optimizer) {
  TrainingState state = verify_checkpoint(checkpoint);
  const fs::path model_path = checkpoint / kModelFile, optimizer_path = checkpoint / kOptimizerFile;
  const SafetensorsReader model_file(model_path), optimizer_file(optimizer_path);
  const std::vector<NamedTensor> model = model_tensors(shards),
                                 moments = optimizer_tensors(shards, optimizer);
  check_tensors(model_file, model_path, model);
  check_tensors(optimizer_file, optimizer_path, moments);
  copy_tensors(model_file, model);
  copy_tensors(optimizer_file, moments);
  return state;
}

TrainingState load_checkpoint_weights(const fs::path& checkpoint,
                                      const std::vector<FlatShard>& shards) {
  TrainingState state = verify_checkpoint(checkpoint);
  const fs::path path = checkpoint / kModelFile;
  const SafetensorsReader file(path);
  const std::vector<NamedTensor> model = model_tensors(shards);
  check_tensors(file, path, model);
  copy_tensors(file, model);
  return state;
}

}  // namespace gimbal
