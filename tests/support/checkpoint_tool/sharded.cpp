#include "sharded.h"

#include "gimbal/checkpoint/checkpoint_reader.h"
#include "gimbal/checkpoint/checkpoint_writer.h"
#include "unit/checkpoint/mesh_shards.h"
#include "unit/checkpoint/thread_ranks.h"

namespace gimbal {

void save_sharded(const std::filesystem::path& file, const std::filesystem::path& run,
                  int dp_replicate, int dp_shard, int tp) {
  const SafetensorsReader reader(file);
  std::vector<testing::MeshParameter> parameters;
  std::map<std::string, at::Tensor> values, doubled;
  for (const std::string& name : reader.names()) {
    values[name] = reader.tensor(name);
    doubled[name] = values[name] * 2;
    const int dim = name.find("rows") != std::string::npos      ? 0
                    : name.find("columns") != std::string::npos ? 1
                                                                : -1;
    parameters.push_back(
        {name, "block." + std::to_string(parameters.size() / 3), values[name].sizes().vec(), dim});
  }
  const MeshShape mesh{1, dp_replicate, dp_shard, 1, tp};
  testing::run_ranks(mesh.devices(), [&](Comm& world) {
    testing::MeshRank rank = testing::empty_rank(parameters, mesh, world.rank());
    rank.optimizer.pop_back();
    testing::fill(rank.shards, testing::flats_of(rank.shards), values);
    testing::fill(rank.shards, rank.optimizer[0].per_shard, doubled);
    TrainingState state;
    state.step = 3;
    state.stage = "schönes Wetter";  // not only ASCII under the checksum
    CheckpointWriter writer(run, world, mesh, {});
    writer.save(state, rank.shards, rank.optimizer);
    writer.finish();
  });
}

void assemble(const std::filesystem::path& checkpoint, const std::filesystem::path& out) {
  const CheckpointReader reader(checkpoint);
  std::vector<TensorSpec> specs;
  for (const auto& [name, tensor] : reader.index().parameters)
    specs.push_back({name, tensor.dtype, tensor.shape});
  SafetensorsWriter writer(out, specs, {{"mesh", reader.mesh()}});
  for (const TensorSpec& spec : specs) writer.write(spec.name, reader.tensor(spec.name));
  writer.close();
}

}  // namespace gimbal
