#include "gimbal/optim/adamw.h"

#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/GradMode.h>

#include "gimbal/base/error.h"

namespace gimbal {

AdamW::AdamW(std::vector<FlatShard>& shards, AdamWOptions options)
    : shards_(shards), options_(options) {
  states_.resize(shards.size());
  for (std::size_t i = 0; i < shards.size(); ++i) {
    if (!shards[i].gradients.defined()) continue;
    states_[i] = {at::zeros_like(shards[i].values), at::zeros_like(shards[i].values)};
  }
}

void AdamW::step(const std::vector<GroupRates>& rates) {
  c10::NoGradGuard no_grad;
  ++step_;
  for (std::size_t i = 0; i < shards_.size(); ++i) {
    FlatShard& shard = shards_[i];
    if (!shard.gradients.defined()) continue;
    GIMBAL_CHECK(shard.group >= 0 && shard.group < static_cast<int>(rates.size()), "no rates for ",
                 "group ", shard.group, " of '", shard.block, "'");
    const GroupRates& rate = rates[static_cast<std::size_t>(shard.group)];
    // The kernel reads the step from the device; it takes float32 for every dtype.
    const at::Tensor step =
        at::full({}, static_cast<double>(step_), shard.values.options().dtype(at::kFloat));
    at::_fused_adamw_({shard.values}, {shard.gradients}, {states_[i].first_moment},
                      {states_[i].second_moment}, {}, {step}, rate.lr, options_.beta1,
                      options_.beta2, rate.weight_decay, options_.eps, /*amsgrad=*/false,
                      /*maximize=*/false);
  }
}

}  // namespace gimbal
