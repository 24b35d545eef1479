// Attention over packs, tiles and caches. Shapes: T tokens, B sequences, N query heads, K kv heads,
// H head width, I tiles, S tile rows.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace gimbal {

/// Causal attention inside each segment of a pack. q [T, N, H], k and v [T, K, H] with N a multiple
/// of K. Nothing is masked: segments of similar length are padded on the right, where causal
/// attention does not look.
at::Tensor causal_attention(const at::Tensor& q_TNH, const at::Tensor& k_TKH,
                            const at::Tensor& v_TKH, const std::vector<std::int64_t>& cu_seqlens);

/// Full attention inside each tile: [I, S, N, H] in and out.
at::Tensor tile_attention(const at::Tensor& q_ISNH, const at::Tensor& k_ISNH,
                          const at::Tensor& v_ISNH);

/// One new token per sequence against the cache: q [B, N, H], keys and values [B, room, K, H] of
/// which the first lengths[b] count. No gradient.
at::Tensor decode_attention(const at::Tensor& q_BNH, const at::Tensor& keys_BLKH,
                            const at::Tensor& values_BLKH,
                            const std::vector<std::int64_t>& lengths);

}  // namespace gimbal
