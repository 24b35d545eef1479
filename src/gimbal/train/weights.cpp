#include "gimbal/train/weights.h"

#include <ATen/core/Tensor.h>

#include <sstream>
#include <unordered_map>

#include "gimbal/base/error.h"
#include "gimbal/checkpoint/hf_folder.h"
#include "gimbal/nn/parameter.h"

namespace gimbal {
namespace {

constexpr std::int64_t kShardBytes = 5'000'000'000;

at::Tensor slice_values(const FlatShard& shard, const FlatShard::Slice& slice) {
  return shard.values.narrow(0, slice.offset, slice.parameter->numel());
}

}  // namespace

void init_weights(ParameterStore& store, std::uint64_t seed) {
  for (const FlatShard& shard : store.shards()) {
    for (const FlatShard::Slice& slice : shard.slices) {
      slice_values(shard, slice).copy_(initial_values(*slice.parameter, seed).reshape({-1}));
    }
  }
  store.values_changed();
}

void load_hf_weights(const Model& model, ParameterStore& store,
                     const std::filesystem::path& folder) {
  const HfWeights weights(folder);
  static const std::vector<std::string> kNoAliases;
  for (const FlatShard& shard : store.shards()) {
    for (const FlatShard::Slice& slice : shard.slices) {
      const Parameter& parameter = *slice.parameter;
      const auto aliases = model.hf_aliases.find(parameter.name);
      const at::Tensor values =
          find_weight(weights, model.hf_names.at(parameter.name),
                      aliases == model.hf_aliases.end() ? kNoAliases : aliases->second,
                      parameter.shape, folder.string());
      slice_values(shard, slice).copy_(values.reshape({-1}));
    }
  }
  store.values_changed();
}

std::string weights_fingerprint(ParameterStore& store) {
  double sum = 0;
  double squares = 0;
  for (const FlatShard& shard : store.shards()) {
    // Shard by shard, so that no second copy of the model is made.
    const at::Tensor values = shard.values.to(at::kDouble);
    sum += values.sum().item<double>();
    squares += values.square().sum().item<double>();
  }
  std::ostringstream text;
  text << std::hexfloat << sum << " " << squares;
  return text.str();
}

void export_hf(const Model& model, ParameterStore& store, at::ScalarType dtype,
               const std::filesystem::path& origin, const std::filesystem::path& folder) {
  std::unordered_map<const Parameter*, std::pair<const FlatShard*, std::int64_t>> place;
  for (const FlatShard& shard : store.shards()) {
    for (const FlatShard::Slice& slice : shard.slices)
      place[slice.parameter.get()] = {&shard, slice.offset};
  }
  const std::vector<ParameterPtr> parameters = model.parameters();
  std::vector<TensorSpec> specs;
  for (const ParameterPtr& parameter : parameters) {
    specs.push_back({model.hf_names.at(parameter->name), dtype, parameter->shape});
  }
  Json config = model.config;
  config["dtype"] = dtype == at::kBFloat16 ? "bfloat16" : "float32";
  config.erase("torch_dtype");
  save_hf_folder(
      folder, origin, config.dump(2) + "\n", specs,
      [&](std::size_t i) {
        const Parameter& parameter = *parameters[i];
        const auto& [shard, offset] = place.at(&parameter);
        return shard->values.narrow(0, offset, parameter.numel())
            .to(at::kCPU, dtype)
            .view(parameter.shape);
      },
      kShardBytes);
}

}  // namespace gimbal
