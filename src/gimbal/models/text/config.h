// Settings of the text backbones Qwen2, Qwen3 and Llama, read from a config.json of transformers 4
// or 5.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "gimbal/base/json.h"
#include "gimbal/nn/attention/rotary_table.h"
#include "gimbal/nn/ops/activation.h"

namespace gimbal {

struct TextConfig {
  std::string family;  // "qwen2", "qwen3", "llama"
  std::int64_t vocab_size = 0;
  std::int64_t width = 0;      // D
  std::int64_t ffn_width = 0;  // F
  std::int64_t num_layers = 0;
  std::int64_t num_heads = 0;     // N
  std::int64_t num_kv_heads = 0;  // K
  std::int64_t head_dim = 0;      // H
  std::int64_t max_positions = 0;
  Activation activation = Activation::kSilu;
  double norm_eps = 1e-6;
  double initializer_range = 0.02;
  bool qkv_bias = false;
  bool output_bias = false;
  bool mlp_bias = false;
  bool qk_norm = false;
  bool tied = false;  // the head uses the embedding's weight
  /// Tokens of this id have no gradient in the embedding (torch's padding_idx); -1: none.
  std::int64_t padding_id = -1;
  /// Sequences longer than this would need sliding-window attention, which is not supported; 0: no
  /// limit.
  std::int64_t sliding_window = 0;
  RotarySettings rotary;
};

/// True for the families of this folder.
bool is_text_family(const std::string& model_type);

/// Absent keys have the defaults of transformers' configuration classes. Throws UserError naming
/// `where` and the key for what is not supported: dropout, an active sliding window, longrope,
/// partial rotary factors, unknown activations, quantised weights.
TextConfig parse_text_config(const Json& config, const std::string& where);

/// The rotary part: `rope_parameters` (transformers 5), or `rope_theta` and `rope_scaling` (4).
RotarySettings parse_rotary_settings(const Json& config, std::int64_t head_dim,
                                     std::int64_t max_positions, const std::string& where);

}  // namespace gimbal
