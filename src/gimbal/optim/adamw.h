// AdamW (Loshchilov and Hutter 2019) on flat shards with torch's fused kernel.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "gimbal/parallel/store.h"

namespace gimbal {

/// One optimizer group's numbers for one step.
struct GroupRates {
  double lr = 0;
  double weight_decay = 0;
};

struct AdamWOptions {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  /// Moments in page-locked memory of the host; they visit the device chunk by chunk in each step.
  /// On a CPU device that is where they are anyway: nothing changes.
  bool offload = false;
};

/// State of one shard, laid out like its values; saved in checkpoints. Undefined tensors for frozen
/// shards.
struct AdamWState {
  at::Tensor first_moment;
  at::Tensor second_moment;
};

class AdamW {
 public:
  /// `shards` must outlive the optimizer.
  AdamW(std::vector<FlatShard>& shards, AdamWOptions options);
  /// One update of all shards that have gradients. rates[g] belongs to group g. Steps count from 1.
  /// The caller tells the store afterwards (values_changed). Asynchronous on CUDA.
  void step(const std::vector<GroupRates>& rates);

  /// Per shard. Offloaded states are complete when this returns: it waits for the device.
  std::vector<AdamWState>& states();
  std::int64_t step_count() const { return step_; }
  void set_step_count(std::int64_t step) { step_ = step; }

 private:
  std::vector<FlatShard>& shards_;
  AdamWOptions options_;
  std::vector<AdamWState> states_;
  std::int64_t step_ = 0;
};

}  // namespace gimbal
