// The optimizer's state under the names that checkpoints give it.
#pragma once

#include <vector>

#include "gimbal/checkpoint/run_checkpoint.h"
#include "gimbal/optim/adamw.h"

namespace gimbal {

/// Moments of all shards; the tensors are the optimizer's own.
inline std::vector<OptimizerTensors> optimizer_tensors(AdamW& optimizer) {
  std::vector<OptimizerTensors> tensors{{"first_moment", {}}, {"second_moment", {}}};
  for (const AdamWState& state : optimizer.states()) {
    tensors[0].per_shard.push_back(state.first_moment);
    tensors[1].per_shard.push_back(state.second_moment);
  }
  return tensors;
}

}  // namespace gimbal
