// Decoder-only text models as data: Llama, Mistral, Qwen2, Qwen3, Qwen3-MoE, InternLM2, and the
// text parts of vision-language models.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "gimbal/arch/config_reader.h"
#include "gimbal/arch/model_desc.h"

namespace gimbal {

/// Routed experts of a sparse feed-forward layer (Qwen3-MoE).
struct ExpertArch {
  std::int64_t num_experts = 0;        // E
  std::int64_t experts_per_token = 0;  // J
  std::int64_t ffn_width = 0;
};

struct TextArch {
  std::string family;
  std::int64_t vocab_size = 0;
  std::int64_t width = 0;      // D
  std::int64_t ffn_width = 0;  // F
  std::int64_t num_layers = 0;
  std::int64_t num_heads = 0;     // N
  std::int64_t num_kv_heads = 0;  // K
  std::int64_t head_dim = 0;      // H
  std::int64_t max_positions = 0;
  bool qkv_bias = false;
  bool output_bias = false;
  bool mlp_bias = false;
  bool qk_norm = false;
  bool fused_gate = true;  // silu: the gate's activation is not kept
  bool tied = false;
  ExpertArch experts;
  std::vector<bool> sparse;  // per layer: routed experts instead of one feed-forward
};

/// Reads a text configuration of `family`, one of text_families(). Throws UserError for another
/// family and for attention windows shorter than the model's longest text, whose work is no
/// function of pairs.
TextArch read_text_arch(const ConfigReader& config, const std::string& family);
const std::vector<std::string>& text_families();

/// Appends text.embed, text.0 .., text.norm, text.head and fills the text fields of `desc`.
void add_text_arch(const TextArch& text, ModelDesc& desc);

/// Words of published configurations for the activation x * sigmoid(x).
bool is_silu(const std::string& activation);

}  // namespace gimbal
