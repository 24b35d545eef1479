#include "gimbal/train/weights.h"

#include <ATen/core/Tensor.h>

#include <sstream>

#include "gimbal/base/error.h"
#include "gimbal/checkpoint/hf_folder.h"
#include "gimbal/nn/parameter.h"

namespace gimbal {
namespace {

/// Copies the slice's piece of its parameter on this tensor-parallel rank.
void fill_slice(const FlatShard& shard, const FlatShard::Slice& slice, const at::Tensor& part) {
  shard.values.narrow(0, slice.offset, slice.numel)
      .copy_(part.reshape({-1}).narrow(0, slice.begin, slice.numel));
}

}  // namespace

void init_weights(ParameterStore& store, std::uint64_t seed) {
  for (const FlatShard& shard : store.shards()) {
    for (const FlatShard::Slice& slice : shard.slices) {
      fill_slice(shard, slice, initial_values(*slice.parameter, seed));
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
                      parameter.full_shape, folder.string());
      fill_slice(shard, slice, part_of(parameter, values));
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

}  // namespace gimbal
