#include "gimbal/arch/families/text.h"

#include <algorithm>

#include "gimbal/arch/families/moe.h"

namespace gimbal {
namespace {

// Defaults of transformers' configuration classes (of InternLM2's own class).
struct TextDefaults {
  std::int64_t vocab_size, width, ffn_width, num_layers, num_heads;
  std::int64_t num_kv_heads;  // 0: as many as heads
  std::int64_t head_dim;      // 0: width / heads
  std::int64_t max_positions;
};

TextDefaults text_defaults(const std::string& family) {
  if (family == "llama") return {32000, 4096, 11008, 32, 32, 0, 0, 2048};
  if (family == "mistral") return {32000, 4096, 14336, 32, 32, 8, 0, 131072};
  if (family == "internlm2") return {103168, 4096, 11008, 32, 32, 0, 0, 2048};
  if (family == "qwen2_vl_text") return {152064, 8192, 29568, 80, 64, 8, 0, 32768};
  if (family == "qwen3_vl_text") return {151936, 4096, 22016, 32, 32, 32, 128, 128000};
  if (family == "qwen3_moe") return {151936, 2048, 6144, 24, 32, 4, 0, 32768};
  return {151936, 4096, 22016, 32, 32, 32, family == "qwen3" ? 128 : 0, 32768};
}

// 0: no layer looks at a window of tokens only.
std::int64_t attention_window(const ConfigReader& config, const TextArch& text) {
  const bool mistral = text.family == "mistral";
  if (!mistral && !config.flag("use_sliding_window", false)) return 0;
  if (config.has_key("sliding_window") && !config.has("sliding_window")) return 0;
  const std::int64_t window = config.count("sliding_window", 4096);
  // Every layer of these has the window; others start at a layer.
  if (mistral || text.family == "qwen3_moe") return window;
  bool slides = config.integer("max_window_layers", text.family == "qwen2_vl_text" ? 80 : 28) <
                text.num_layers;
  const std::vector<std::string> types = config.words("layer_types");
  if (!types.empty()) slides = std::ranges::find(types, "sliding_attention") != types.end();
  return slides ? window : 0;
}

// A window that is shorter than the longest text makes work depend on more than rows and pairs.
void refuse_windows(const ConfigReader& config, const TextArch& text) {
  const bool qwen = text.family.starts_with("qwen") && text.family != "qwen3_vl_text";
  if (!qwen && text.family != "mistral") return;
  const std::int64_t window = attention_window(config, text);
  if (window > 0 && window < text.max_positions)
    config.fail("sliding_window",
                concat("is ", window, " tokens, shorter than max_position_embeddings ",
                       text.max_positions, ": sliding-window attention is not supported; set ",
                       qwen ? "use_sliding_window to false (and layer_types to full_attention)"
                            : "it to null",
                       ", or max_position_embeddings to the longest text that you use"));
  if (!qwen || text.family == "qwen3_moe") return;
  for (const std::string& type : config.words("layer_types"))
    if (type != "full_attention" && (type != "sliding_attention" || window == 0))
      config.fail("layer_types", "has '" + type + "'; only full_attention is supported");
}

void read_biases(const ConfigReader& config, TextArch& text) {
  if (text.family == "qwen2" || text.family == "qwen2_vl_text") {
    text.qkv_bias = true;
  } else if (text.family == "internlm2") {
    text.qkv_bias = text.output_bias = config.flag("bias", true);
  } else if (text.family != "mistral") {
    text.qkv_bias = text.output_bias = config.flag("attention_bias", false);
  }
  text.qk_norm = text.family.starts_with("qwen3");
  if (text.family == "llama") text.mlp_bias = config.flag("mlp_bias", false);
}

void read_heads(const ConfigReader& config, const TextDefaults& defaults, TextArch& text) {
  text.num_heads = config.count("num_attention_heads", defaults.num_heads);
  const bool null_kv = config.has_key("num_key_value_heads") && !config.has("num_key_value_heads");
  text.num_kv_heads =
      config.count("num_key_value_heads",
                   null_kv || defaults.num_kv_heads == 0 ? text.num_heads : defaults.num_kv_heads);
  if (text.num_heads % text.num_kv_heads != 0)
    config.fail("num_key_value_heads",
                concat("is ", text.num_kv_heads, ", which does not divide num_attention_heads ",
                       text.num_heads));
  // Some families have no such key: their heads are always width / heads.
  const bool own_key = text.family != "qwen2_vl_text" && text.family != "internlm2";
  if (own_key && (defaults.head_dim > 0 || config.has("head_dim"))) {
    text.head_dim = config.count("head_dim", defaults.head_dim);
    return;
  }
  if (text.width % text.num_heads != 0)
    config.fail("num_attention_heads",
                concat("is ", text.num_heads, ", which does not divide hidden_size ", text.width));
  text.head_dim = text.width / text.num_heads;
}

PartDesc attention_part(const TextArch& t) {
  const std::int64_t q = t.num_heads * t.head_dim, kv = t.num_kv_heads * t.head_dim;
  PartDesc part;
  part.name = "attention";
  part.product_flops_per_row = 2.0 * static_cast<double>(t.width * (2 * q + 2 * kv));
  // Scores and weighted values: 2 products of 2 H per pair and head, for the causal half.
  part.attention_flops_per_pair = 2.0 * static_cast<double>(q);
  part.input_values_per_row = static_cast<double>(t.width);
  // The input and its norm; q, k, v, and q and k before their norm; attention's result and
  // log-sums.
  part.saved_values_per_row =
      static_cast<double>(2 * t.width + 2 * q + 2 * kv + (t.qk_norm ? q + kv : 0) + t.num_heads);
  part.gathered_values_per_row = static_cast<double>(t.width);
  part.attended_values_per_row = static_cast<double>(q);
  part.key_value_values_per_row = static_cast<double>(2 * kv);
  part.num_key_value_heads = t.num_kv_heads;
  return part;
}

PartDesc dense_mlp_part(const TextArch& t) {
  PartDesc part;
  part.name = "mlp";
  part.product_flops_per_row = 2.0 * static_cast<double>(3 * t.width * t.ffn_width);
  part.input_values_per_row = static_cast<double>(t.width);
  // The input and its norm; gate, up and their product; other gates than silu keep their result.
  part.saved_values_per_row =
      static_cast<double>(2 * t.width + (t.fused_gate ? 3 : 4) * t.ffn_width);
  part.gathered_values_per_row = static_cast<double>(t.width);
  return part;
}

BlockDesc text_layer(const TextArch& t, std::int64_t layer) {
  const std::int64_t q = t.num_heads * t.head_dim, kv = t.num_kv_heads * t.head_dim;
  BlockDesc block;
  block.name = "text." + std::to_string(layer);
  block.kind = BlockKind::kTextLayer;
  block.cost_class = "text_layer";
  block.num_parameters = t.width * (2 * q + 2 * kv) + 2 * t.width + (t.qkv_bias ? q + 2 * kv : 0) +
                         (t.output_bias ? t.width : 0) + (t.qk_norm ? 2 * t.head_dim : 0);
  block.num_uncut_parameters =
      2 * t.width + (t.output_bias ? t.width : 0) + (t.qk_norm ? 2 * t.head_dim : 0);
  block.num_key_value_parameters = 2 * t.width * kv + (t.qkv_bias ? 2 * kv : 0);
  block.parts.push_back(attention_part(t));
  block.output_values_per_row = static_cast<double>(t.width);
  block.tensor_reductions = 2;
  block.exchanged_values_per_row = static_cast<double>(2 * q + 2 * kv);
  if (t.sparse[static_cast<std::size_t>(layer)]) {
    add_expert_mlp(t, block);
  } else {
    block.num_parameters +=
        3 * t.width * t.ffn_width + (t.mlp_bias ? 2 * t.ffn_width + t.width : 0);
    if (t.mlp_bias) block.num_uncut_parameters += t.width;
    block.parts.push_back(dense_mlp_part(t));
  }
  return block;
}

BlockDesc text_edge(const std::string& name, BlockKind kind, const std::string& cost_class,
                    std::int64_t num_parameters, double output_values) {
  BlockDesc block;
  block.name = name;
  block.kind = kind;
  block.cost_class = cost_class;
  block.num_parameters = num_parameters;
  block.parts.resize(1);
  block.parts[0].name = "all";
  block.output_values_per_row = output_values;
  return block;
}

}  // namespace

const std::vector<std::string>& text_families() {
  static const std::vector<std::string> kFamilies{"internlm2", "llama", "mistral",
                                                  "qwen2",     "qwen3", "qwen3_moe"};
  return kFamilies;
}

bool is_silu(const std::string& activation) {
  return activation == "silu" || activation == "swish";
}

TextArch read_text_arch(const ConfigReader& config, const std::string& family) {
  const auto& known = text_families();
  const bool inner = family == "qwen2_vl_text" || family == "qwen3_vl_text";
  if (!inner && std::ranges::find(known, family) == known.end()) {
    std::string names;
    for (const std::string& name : known) names += (names.empty() ? "" : ", ") + name;
    config.fail("model_type", "is '" + family + "'; known text models are " + names);
  }
  const TextDefaults defaults = text_defaults(family);
  TextArch text;
  text.family = family;
  text.vocab_size = config.count("vocab_size", defaults.vocab_size);
  text.width = config.count("hidden_size", defaults.width);
  text.ffn_width = config.count("intermediate_size", defaults.ffn_width);
  text.num_layers = config.layers("num_hidden_layers", defaults.num_layers);
  text.max_positions = config.integer("max_position_embeddings", defaults.max_positions);
  if (text.max_positions < 1)
    config.fail("max_position_embeddings",
                concat("must be at least 1 but is ", text.max_positions));
  read_heads(config, defaults, text);
  read_biases(config, text);
  text.fused_gate = is_silu(config.word("hidden_act", "silu"));
  text.tied = config.flag("tie_word_embeddings", false);
  refuse_windows(config, text);
  text.sparse.assign(static_cast<std::size_t>(text.num_layers), false);
  if (family == "qwen3_moe") read_experts(config, text);
  return text;
}

void add_text_arch(const TextArch& t, ModelDesc& desc) {
  const auto width = static_cast<double>(t.width);
  const std::int64_t embedding = t.vocab_size * t.width;
  BlockDesc embed = text_edge("text.embed", BlockKind::kTextEmbed, "text_embed", embedding, width);
  embed.tensor_reductions = 1;  // of the rows that each rank looks up in its part of the vocabulary
  desc.blocks.push_back(embed);
  for (std::int64_t layer = 0; layer < t.num_layers; ++layer)
    desc.blocks.push_back(text_layer(t, layer));
  BlockDesc norm = text_edge("text.norm", BlockKind::kTextNorm, "text_norm", t.width, width);
  norm.parts[0].input_values_per_row = norm.parts[0].saved_values_per_row = width;
  norm.num_uncut_parameters = t.width;
  desc.blocks.push_back(norm);
  BlockDesc head =
      text_edge("text.head", BlockKind::kTextHead, "text_head", t.tied ? 0 : embedding, 0);
  head.parts[0].product_flops_per_row = 2.0 * static_cast<double>(embedding);
  // The gathered rows and their gradient, computed in the forward pass; logits never live until
  // backward, so there is nothing to compute again.
  head.parts[0].input_values_per_row = head.parts[0].saved_values_per_row = 2 * width;
  head.parts[0].gathered_values_per_row = 2 * width;
  desc.blocks.push_back(head);
  desc.vocab_size = t.vocab_size;
  desc.max_positions = t.max_positions;
  desc.tied_embeddings = t.tied;
  desc.text_heads = t.num_heads;
  desc.text_kv_heads = t.num_kv_heads;
  desc.text_ffn = t.ffn_width;
  desc.num_experts =
      std::ranges::find(t.sparse, true) == t.sparse.end() ? 0 : t.experts.num_experts;
}

}  // namespace gimbal
