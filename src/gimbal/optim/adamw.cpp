#include "gimbal/optim/adamw.h"

#include <ATen/ops/zeros.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <map>

#include "gimbal/base/error.h"
#include "gimbal/optim/adamw_update.h"

namespace gimbal {
namespace {

/// Values of a moment that are on the device at a time: 64 MiB of float32.
constexpr std::int64_t kOffloadChunk = std::int64_t{1} << 24;

/// Whether the shard's moments are in another memory than its values.
bool is_offloaded(const FlatShard& shard, const AdamWOptions& options) {
  return options.offload && !shard.values.device().is_cpu();
}

at::Tensor make_moment(const FlatShard& shard, const AdamWOptions& options) {
  if (!is_offloaded(shard, options)) {
    return at::zeros({shard.values.numel()}, shard.values.options());
  }
  return at::zeros({shard.values.numel()},
                   shard.values.options().device(at::kCPU).pinned_memory(true));
}

}  // namespace

AdamW::AdamW(std::vector<FlatShard>& shards, AdamWOptions options)
    : shards_(shards), options_(options) {
  states_.resize(shards.size());
  for (std::size_t i = 0; i < shards.size(); ++i) {
    if (!shards[i].gradients.defined()) continue;
    states_[i] = {make_moment(shards[i], options), make_moment(shards[i], options)};
  }
}

void AdamW::step(const std::vector<GroupRates>& rates) {
  ++step_;
  std::map<int, AdamWTensors> groups;
  bool offloaded = false;
  for (std::size_t i = 0; i < shards_.size(); ++i) {
    const FlatShard& shard = shards_[i];
    if (!shard.gradients.defined()) continue;
    GIMBAL_CHECK(shard.group >= 0 && shard.group < static_cast<int>(rates.size()), "no rates for ",
                 "group ", shard.group, " of '", shard.block, "'");
    if (shard.values.numel() == 0) continue;
    offloaded = is_offloaded(shard, options_);
    AdamWTensors& group = groups[shard.group];
    group.values.push_back(shard.values);
    group.gradients.push_back(shard.gradients);
    group.first_moments.push_back(states_[i].first_moment);
    group.second_moments.push_back(states_[i].second_moment);
  }
  for (const auto& [group, tensors] : groups) {
    const GroupRates& rate = rates[static_cast<std::size_t>(group)];
    if (offloaded) {
      update_in_chunks(tensors, step_, rate, options_, kOffloadChunk);
    } else {
      update_together(tensors, step_, rate, options_);
    }
  }
}

std::vector<AdamWState>& AdamW::states() {
  for (const FlatShard& shard : shards_) {
    if (!is_offloaded(shard, options_)) continue;
    const at::Device device = shard.values.device();
    c10::impl::VirtualGuardImpl(device.type()).synchronizeDevice(device.index());
    break;
  }
  return states_;
}

}  // namespace gimbal
