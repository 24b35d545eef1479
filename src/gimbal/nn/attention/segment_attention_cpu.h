// Causal attention of grouped segments on the CPU with one gradient function for the whole pack.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "gimbal/nn/attention/segment_groups.h"

namespace gimbal {

/// q [T, N, H], k and v [T, K, H]. One flash attention call per group; segments are copied into
/// padded batches only where the pack's rows do not lie as the batch wants them.
at::Tensor segment_attention_cpu(const at::Tensor& q_TNH, const at::Tensor& k_TKH,
                                 const at::Tensor& v_TKH, const std::vector<SegmentGroup>& groups);

}  // namespace gimbal
