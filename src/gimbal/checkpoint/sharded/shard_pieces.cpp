#include "gimbal/checkpoint/sharded/shard_pieces.h"

#include "gimbal/base/error.h"
#include "gimbal/base/rng.h"

namespace gimbal {
namespace {

// A parameter that one rank alone has is whole, also when a layout table cuts it.
bool is_whole(const Parameter& parameter) {
  return parameter.sharded_dim < 0 || parameter.shape == parameter.full_shape;
}

TensorPart part_in_checkpoint(const Parameter& parameter) {
  if (is_whole(parameter)) return {};
  return {parameter.sharded_dim, parameter.part_begin,
          parameter.shape[static_cast<std::size_t>(parameter.sharded_dim)]};
}

// Which replica writes: layers go round. By the block's name, because that is what all replicas
// have alike, also when they are on unlike pipeline stages.
int writing_replica(const FlatShard& shard) {
  const std::size_t digits = shard.block.find_last_not_of("0123456789") + 1;
  std::uint64_t number = hash_name(shard.block);
  if (digits < shard.block.size()) {
    number = 0;
    for (const char digit : shard.block.substr(digits))
      number = 10 * number + static_cast<std::uint64_t>(digit - '0');
  }
  return static_cast<int>(number % static_cast<std::uint64_t>(shard.num_replicas));
}

void add_shard(const FlatShard& shard, const at::Tensor& flat, const std::string& suffix,
               std::vector<PlacedPiece>& out) {
  const at::Tensor values = flat.detach();
  const bool writes = shard.replica == writing_replica(shard);
  for (const FlatShard::Slice& slice : shard.slices) {
    const Parameter& parameter = *slice.parameter;
    if (slice.numel == 0 && parameter.numel() > 0) continue;
    out.push_back({parameter.name + suffix,
                   is_whole(parameter) ? parameter.shape : parameter.full_shape,
                   {part_in_checkpoint(parameter), slice.begin, slice.numel},
                   values.narrow(0, slice.offset, slice.numel),
                   writes});
  }
}

}  // namespace

std::vector<PlacedPiece> parameter_pieces(const std::vector<FlatShard>& shards) {
  std::vector<PlacedPiece> out;
  for (const FlatShard& shard : shards) add_shard(shard, shard.values, "", out);
  return out;
}

std::vector<PlacedPiece> optimizer_pieces(const std::vector<FlatShard>& shards,
                                          const std::vector<OptimizerTensors>& optimizer) {
  std::vector<PlacedPiece> out;
  for (const OptimizerTensors& kind : optimizer) {
    GIMBAL_CHECK_EQ(kind.per_shard.size(), shards.size(), "optimizer tensors and shards");
    for (std::size_t s = 0; s < shards.size(); ++s) {
      const at::Tensor& flat = kind.per_shard[s];
      if (!flat.defined()) continue;
      GIMBAL_CHECK_EQ(flat.numel(), shards[s].values.numel(), "layout of ", kind.name);
      add_shard(shards[s], flat, "." + kind.name, out);
    }
  }
  return out;
}

bool holds_whole_parameters(const std::vector<FlatShard>& shards) {
  for (const FlatShard& shard : shards) {
    for (const FlatShard::Slice& slice : shard.slices) {
      if (!is_whole(*slice.parameter) || slice.numel != slice.parameter->numel()) return false;
    }
  }
  return true;
}

}  // namespace gimbal
