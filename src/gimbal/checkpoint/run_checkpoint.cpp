// Saving, verifying and loading one training checkpoint.
#include "gimbal/checkpoint/run_checkpoint.h"

#include <ATen/ops/zeros.h>

#include "gimbal/base/error.h"
#include "gimbal/checkpoint/checkpoint_reader.h"
#include "gimbal/checkpoint/sharded/agree.h"
#include "gimbal/checkpoint/sharded/publish.h"
#include "gimbal/checkpoint/sharded/state_file.h"

namespace gimbal {
namespace {

namespace fs = std::filesystem;

// Pieces in memory and where their values are in the checkpoint.
struct LoadList {
  const SavedTensors& saved;
  std::vector<PlacedPiece> places;
  std::vector<MappedPieces> sources;  // one per place
};

// Throws before anything is copied. Marks what has a place in `used`, in the order of the names.
void open_sources(const CheckpointReader& reader, LoadList& list, at::Tensor used) {
  const std::string where = reader.path().string();
  auto* is_used = used.mutable_data_ptr<std::int64_t>();
  for (const PlacedPiece& place : list.places) {
    const auto it = list.saved.find(place.name);
    GIMBAL_USER_CHECK(it != list.saved.end(), where, ": has no '", place.name,
                      "'. The checkpoint is of another model, or other parameters were frozen; "
                      "start a new run folder.");
    const SavedTensor& tensor = it->second;
    GIMBAL_USER_CHECK(tensor.shape == place.shape, where, ": '", place.name, "' has the shape ",
                      at::IntArrayRef(tensor.shape), ", the model asks for ",
                      at::IntArrayRef(place.shape), ". The checkpoint is of another model.");
    GIMBAL_USER_CHECK(tensor.dtype == place.values.scalar_type(), where, ": '", place.name, "' is ",
                      safetensors_dtype(tensor.dtype), ", this run keeps ",
                      safetensors_dtype(place.values.scalar_type()),
                      ". Go on with the model.dtype that the run began with.");
    list.sources.push_back(reader.open(place.name, tensor, place.piece));
    is_used[std::distance(list.saved.begin(), it)] = 1;
  }
}

// Each rank has places for some tensors, all ranks together for all.
void check_none_is_left(const CheckpointReader& reader, const SavedTensors& saved,
                        const at::Tensor& used) {
  const auto* is_used = used.const_data_ptr<std::int64_t>();
  for (const auto& [name, tensor] : saved) {
    GIMBAL_USER_CHECK(*is_used++ > 0, reader.path().string(), ": has '", name,
                      "', which this run has no place for. The checkpoint is of another model, or "
                      "other parameters were frozen; start a new run folder.");
  }
}

TrainingState load(const fs::path& checkpoint, const std::vector<FlatShard>& shards,
                   const std::vector<OptimizerTensors>* optimizer, Comm& world,
                   VerifyFirst verify) {
  std::optional<CheckpointReader> reader;
  run_slow_together(world, "checkpoint files", [&] {
    if (verify == VerifyFirst::kYes) verify_checkpoint(checkpoint, world.rank(), world.size());
    reader.emplace(checkpoint);
  });
  std::vector<LoadList> lists{{reader->index().parameters, parameter_pieces(shards), {}}};
  if (optimizer != nullptr)
    lists.push_back({reader->index().optimizer, optimizer_pieces(shards, *optimizer), {}});
  std::vector<at::Tensor> used;
  for (const LoadList& list : lists)
    used.push_back(at::zeros({static_cast<std::int64_t>(list.saved.size())}, at::kLong));
  run_together(world, "checkpoint tensors", [&] {
    for (std::size_t i = 0; i < lists.size(); ++i) open_sources(*reader, lists[i], used[i]);
  });
  for (std::size_t i = 0; i < lists.size(); ++i) {
    const at::Tensor on_device = used[i].to(world.device());
    world.all_reduce_sum(on_device, "checkpoint names")->wait();
    check_none_is_left(*reader, lists[i].saved, on_device.to(at::kCPU));
  }
  for (const LoadList& list : lists) {
    for (std::size_t i = 0; i < list.places.size(); ++i)
      list.sources[i].copy(list.places[i].piece, list.places[i].values);
  }
  return reader->state();
}

}  // namespace

fs::path save_checkpoint(const fs::path& run_folder, const TrainingState& state,
                         const std::vector<FlatShard>& shards,
                         const std::vector<OptimizerTensors>& optimizer, const std::string& mesh) {
  GIMBAL_CHECK(holds_whole_parameters(shards), "one rank cannot save what it has parts of");
  RankPieces pieces{parameter_pieces(shards), optimizer_pieces(shards, optimizer)};
  const fs::path path = checkpoint_path(run_folder, state.step);
  AtomicFolder folder(path);
  const std::atomic<bool> never_stop{false};
  publish_checkpoint(folder, state, mesh, {write_rank_file(folder.path(), 0, pieces, never_stop)});
  return path;
}

TrainingState verify_checkpoint(const fs::path& checkpoint, int part, int parts) {
  const StateFile state_file = read_state_file(checkpoint);
  auto is_mine = [&, next = 0]() mutable { return next++ % parts == part; };
  for (const auto& [name, expected] : state_file.files) {
    if (is_mine()) check_file(checkpoint / name, expected);
  }
  const CheckpointReader reader(checkpoint);
  const std::string where = checkpoint.string();
  for (const SavedTensors* tensors : {&reader.index().parameters, &reader.index().optimizer}) {
    for (const auto& [name, tensor] : *tensors) {
      if (is_mine()) tensor.piece_map(concat(where, ": '", name, "'"));
    }
  }
  return state_file.state;
}

TrainingState load_checkpoint(const fs::path& checkpoint, const std::vector<FlatShard>& shards,
                              const std::vector<OptimizerTensors>& optimizer, Comm& world,
                              VerifyFirst verify) {
  return load(checkpoint, shards, &optimizer, world, verify);
}

TrainingState load_checkpoint_weights(const fs::path& checkpoint,
                                      const std::vector<FlatShard>& shards, Comm& world,
                                      VerifyFirst verify) {
  return load(checkpoint, shards, nullptr, world, verify);
}

TrainingState load_checkpoint(const fs::path& checkpoint, const std::vector<FlatShard>& shards,
                              const std::vector<OptimizerTensors>& optimizer) {
  return load(checkpoint, shards, &optimizer, *make_single_comm(), VerifyFirst::kYes);
}

TrainingState load_checkpoint_weights(const fs::path& checkpoint,
                                      const std::vector<FlatShard>& shards) {
  return load(checkpoint, shards, nullptr, *make_single_comm(), VerifyFirst::kYes);
}

}  // namespace gimbal
