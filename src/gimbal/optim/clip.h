// The global gradient norm and clipping by it.
#pragma once

#include <vector>

#include "gimbal/parallel/comm.h"
#include "gimbal/parallel/store.h"

namespace gimbal {

/// L2 norm over the gradients of all shards, which may be empty: 0-dim float64 on the shards'
/// device (reading it synchronises). Zero when nothing is trainable.
at::Tensor global_norm(const std::vector<FlatShard>& shards);

/// Of the whole model: each gradient counts once, on its replica 0. One all-reduce over `world`,
/// all ranks of the mesh; the same bits on all of them. With one rank that of its shards.
at::Tensor global_norm(const std::vector<FlatShard>& shards, Comm& world);

/// Scales the gradients by min(1, max_norm / (norm + 1e-6)), as torch.nn.utils.clip_grad_norm_
/// does. No synchronisation. max_norm > 0.
void clip_gradients(std::vector<FlatShard>& shards, const at::Tensor& norm, double max_norm);

}  // namespace gimbal
