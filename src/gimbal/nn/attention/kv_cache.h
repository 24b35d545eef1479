// Keys and values of the tokens that generation has seen, per attention layer.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace gimbal {

/// Room for `max_tokens` tokens of each of B sequences in each of L layers: [B, max_tokens, K, H]
/// for keys and for values. A layer's tensors are made when its prompt is stored: a pipeline stage
/// holds those of its own layers only.
class KvCache {
 public:
  KvCache(std::int64_t num_layers, std::int64_t num_sequences, std::int64_t max_tokens,
          std::int64_t num_kv_heads, std::int64_t head_dim, const at::TensorOptions& options);

  /// Prefill: stores the keys and values [T, K, H] of a packed batch with the given segments (host
  /// cu_seqlens, B + 1 entries).
  void store_prompt(std::int64_t layer, const at::Tensor& k_TKH, const at::Tensor& v_TKH,
                    const std::vector<std::int64_t>& cu_seqlens);
  /// Decode: stores one token per sequence ([B, K, H]) at lengths()[b].
  void store_next(std::int64_t layer, const at::Tensor& k_BKH, const at::Tensor& v_BKH);
  /// To call once after all layers stored: lengths grow by the prompt lengths, or by one.
  void advance(const std::vector<std::int64_t>& num_tokens);

  /// Undefined before the layer's prompt is stored.
  const at::Tensor& keys(std::int64_t layer) const {
    return keys_[static_cast<std::size_t>(layer)];
  }
  const at::Tensor& values(std::int64_t layer) const {
    return values_[static_cast<std::size_t>(layer)];
  }
  const std::vector<std::int64_t>& lengths() const { return lengths_; }
  bool empty() const { return empty_; }

 private:
  void make_layer(std::int64_t layer);

  std::int64_t max_tokens_, num_kv_heads_, head_dim_;
  at::TensorOptions options_;
  std::vector<at::Tensor> keys_, values_;
  std::vector<std::int64_t> lengths_;
  bool empty_ = true;
};

}  // namespace gimbal
