#include "gimbal/models/text/config.h"

#include <vector>

#include "gimbal/models/config_keys.h"

namespace gimbal {
namespace {

// Defaults of transformers' classes where the three families differ.
struct FamilyDefaults {
  std::int64_t vocab_size, ffn_width, max_positions, head_dim,
      num_kv_heads;  // 0: derived from others
};

FamilyDefaults family_defaults(const std::string& family) {
  if (family == "llama") return {32000, 11008, 2048, 0, 0};
  return {151936, 22016, 32768, family == "qwen3" ? 128 : 0, 32};
}

// Qwen configurations name the layers that look at a window of tokens only. Returns the window, 0
// when no layer has one.
std::int64_t read_sliding_window(const Json& config, const TextConfig& text,
                                 const std::string& where) {
  if (text.family == "llama") return 0;
  const bool used = json_get_or<bool>(config, "use_sliding_window", false, where);
  const auto window =
      used ? json_get_or<std::int64_t>(config, "sliding_window",
                                       config.contains("sliding_window") ? 0 : 4096, where)
           : 0;
  const auto first_layer = json_get_or<std::int64_t>(config, "max_window_layers", 28, where);
  bool slides = window > 0 && first_layer < text.num_layers;
  if (config.contains("layer_types") && !config.at("layer_types").is_null()) {
    slides = false;
    for (const auto& type : json_get<std::vector<std::string>>(config, "layer_types", where)) {
      GIMBAL_USER_CHECK(type == "full_attention" || (type == "sliding_attention" && window > 0),
                        where, ": key 'layer_types' has '", type,
                        "'; only full_attention is supported");
      slides = slides || type == "sliding_attention";
    }
  }
  if (!slides) return 0;
  GIMBAL_USER_CHECK(window >= text.max_positions, where,
                    ": key 'use_sliding_window' is true with a sliding_window of ", window,
                    " tokens, shorter than max_position_embeddings ", text.max_positions,
                    ": sliding-window attention is not supported; set use_sliding_window to false "
                    "(and layer_types to full_attention)");
  return window;
}

void read_biases(const Json& config, TextConfig& text, const std::string& where) {
  if (text.family == "qwen2") {
    text.qkv_bias = true;
    return;
  }
  text.qkv_bias = text.output_bias = json_get_or<bool>(config, "attention_bias", false, where);
  text.qk_norm = text.family == "qwen3";
  if (text.family == "llama") text.mlp_bias = json_get_or<bool>(config, "mlp_bias", false, where);
}

void read_heads(const Json& config, TextConfig& text, const FamilyDefaults& defaults,
                const std::string& where) {
  text.num_heads = read_count(config, "num_attention_heads", 32, where);
  const bool null_kv =
      config.contains("num_key_value_heads") && config.at("num_key_value_heads").is_null();
  text.num_kv_heads = read_count(
      config, "num_key_value_heads",
      null_kv || defaults.num_kv_heads == 0 ? text.num_heads : defaults.num_kv_heads, where);
  GIMBAL_USER_CHECK(text.num_heads % text.num_kv_heads == 0, where, ": num_attention_heads ",
                    text.num_heads, " is no multiple of key 'num_key_value_heads' ",
                    text.num_kv_heads);
  const bool own = config.contains("head_dim") && !config.at("head_dim").is_null();
  GIMBAL_USER_CHECK(own || defaults.head_dim > 0 || text.width % text.num_heads == 0, where,
                    ": hidden_size ", text.width, " is no multiple of key 'num_attention_heads' ",
                    text.num_heads);
  text.head_dim =
      read_count(config, "head_dim",
                 defaults.head_dim > 0 ? defaults.head_dim : text.width / text.num_heads, where);
  GIMBAL_USER_CHECK(text.head_dim % 2 == 0, where,
                    ": the head width must be even for rotary embeddings but is ", text.head_dim,
                    " (keys 'head_dim', 'hidden_size', 'num_attention_heads')");
}

}  // namespace

bool is_text_family(const std::string& model_type) {
  return model_type == "qwen2" || model_type == "qwen3" || model_type == "llama";
}

TextConfig parse_text_config(const Json& config, const std::string& where) {
  GIMBAL_USER_CHECK(
      !config.contains("quantization_config") || config.at("quantization_config").is_null(), where,
      ": key 'quantization_config': quantised weights cannot be trained; use the unquantised "
      "model");
  TextConfig text;
  text.family = json_get_or<std::string>(config, "model_type", "qwen2", where);
  GIMBAL_USER_CHECK(is_text_family(text.family), where, ": key 'model_type' is '", text.family,
                    "'; supported text models are qwen2, qwen3 and llama");
  const FamilyDefaults defaults = family_defaults(text.family);
  text.vocab_size = read_count(config, "vocab_size", defaults.vocab_size, where);
  text.width = read_count(config, "hidden_size", 4096, where);
  text.ffn_width = read_count(config, "intermediate_size", defaults.ffn_width, where);
  text.num_layers = read_count(config, "num_hidden_layers", 32, where);
  text.max_positions = read_count(config, "max_position_embeddings", defaults.max_positions, where);
  read_heads(config, text, defaults, where);
  read_biases(config, text, where);
  text.activation = read_activation(config, "hidden_act", "silu", where);
  text.norm_eps = json_get_or<double>(config, "rms_norm_eps", 1e-6, where);
  text.initializer_range = read_initializer_range(config, where);
  text.tied = json_get_or<bool>(config, "tie_word_embeddings", false, where);
  refuse_dropout(config, "attention_dropout", where);
  text.sliding_window = read_sliding_window(config, text, where);
  if (config.contains("pad_token_id") && !config.at("pad_token_id").is_null()) {
    const auto padding = json_get<std::int64_t>(config, "pad_token_id", where);
    text.padding_id = padding < 0 ? padding + text.vocab_size : padding;
    GIMBAL_USER_CHECK(text.padding_id >= 0 && text.padding_id < text.vocab_size, where,
                      ": key 'pad_token_id' ", padding, " is outside of the vocabulary of ",
                      text.vocab_size);
  }
  text.rotary = parse_rotary_settings(config, text.head_dim, text.max_positions, where);
  return text;
}

}  // namespace gimbal
