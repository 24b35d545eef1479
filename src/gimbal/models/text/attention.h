// Attention of the text backbones. Shapes: t rows of this rank, s rows of its sequence part, T rows
// of the pack, D width, N query heads, K kv heads, H head width; n and k: heads of one rank while
// it attends.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gimbal/models/block.h"
#include "gimbal/models/text/config.h"
#include "gimbal/nn/layers.h"
#include "gimbal/nn/ports.h"

namespace gimbal {

/// Lengths of the batch's sequences, tokens in the cache included.
std::vector<std::int64_t> sequence_lengths(const PassContext& context);

/// Causal grouped-query attention with rotary positions.
class TextAttention {
 public:
  TextAttention(ParameterList& list, const std::string& name, const TextConfig& config,
                std::int64_t layer, std::shared_ptr<const RotaryTable> rotary, const Ports& ports);
  at::Tensor operator()(const at::Tensor& x_tD, const PassContext& context) const;

 private:
  at::Tensor project_kv(const Linear& projection, const at::Tensor& x_sD) const;
  at::Tensor attend(const at::Tensor& q_TnH, const at::Tensor& k_TkH, const at::Tensor& v_TkH,
                    const PassContext& context) const;

  Ports ports_;
  std::int64_t layer_, head_dim_;
  std::int64_t num_heads_;                // query heads of this tensor-parallel rank
  std::vector<std::int64_t> some_heads_;  // kv heads to compute of a whole projection; empty: all
  Linear q_proj_, k_proj_, v_proj_;
  RowLinear o_proj_;
  std::optional<RmsNorm> q_norm_, k_norm_;
  std::shared_ptr<const RotaryTable> rotary_;
};

/// Key and value heads that this rank has while it attends: the size of its key-value cache.
std::int64_t attended_kv_heads(const TextConfig& config, const Ports& ports);

}  // namespace gimbal
