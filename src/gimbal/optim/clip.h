// The global gradient norm and clipping by it.
#pragma once

#include <vector>

#include "gimbal/parallel/store.h"

namespace gimbal {

/// L2 norm over the gradients of all shards: 0-dim float64 on the shards' device (reading it
/// synchronises). All ranks hold equal reduced gradients, so it needs no communication. Zero when
/// nothing is trainable.
at::Tensor global_norm(const std::vector<FlatShard>& shards);

/// Scales the gradients by min(1, max_norm / (norm + 1e-6)), as torch.nn.utils.clip_grad_norm_
/// does. No synchronisation. max_norm > 0.
void clip_gradients(std::vector<FlatShard>& shards, const at::Tensor& norm, double max_norm);

}  // namespace gimbal
