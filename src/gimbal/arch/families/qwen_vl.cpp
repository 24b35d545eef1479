#include "gimbal/arch/families/qwen_vl.h"

#include <algorithm>

#include "gimbal/arch/families/text.h"

namespace gimbal {
namespace {

struct PatchTowerArch {
  std::int64_t width = 0;      // D
  std::int64_t ffn_width = 0;  // F
  std::int64_t num_layers = 0;
  std::int64_t num_heads = 0;
  std::int64_t patch_values = 0;  // channels x frames x pixels of a patch
  std::int64_t merge = 2;         // patches along a side of a visual token
  std::int64_t out_width = 0;     // of a visual token
  std::int64_t num_learned_places = 0;
  bool patch_bias = false;
  bool rms_norm = false;
  bool gated = false;                     // gate, up and down instead of two linear layers
  std::int64_t kept_hidden = 2;           // values kept per hidden value
  std::int64_t window_rows = 0;           // patches of a window; 0: attention over the picture
  std::vector<std::int64_t> full_layers;  // of a tower with windows
  std::vector<std::int64_t> deepstack;    // layers with a merger behind them
};

std::int64_t layer_norm_values(const PatchTowerArch& t) {
  return t.rms_norm ? t.width : 2 * t.width;
}

// Norm, then two linear layers on a square of patches.
std::int64_t merger_parameters(const PatchTowerArch& t, std::int64_t norm_values) {
  const std::int64_t joined = t.width * t.merge * t.merge;
  return norm_values + joined * joined + joined + joined * t.out_width + t.out_width;
}

double merger_flops_per_patch(const PatchTowerArch& t) {
  const std::int64_t joined = t.width * t.merge * t.merge;
  return 2.0 * static_cast<double>(joined * joined + joined * t.out_width) /
         static_cast<double>(t.merge * t.merge);
}

double token_values_per_patch(const PatchTowerArch& t) {
  return static_cast<double>(t.out_width) / static_cast<double>(t.merge * t.merge);
}

BlockDesc patch_embed(const PatchTowerArch& t) {
  BlockDesc block;
  block.name = "vision.embed";
  block.kind = BlockKind::kVisionEmbed;
  block.cost_class = "vision_embed";
  block.num_parameters = t.width * (t.patch_values + t.num_learned_places + (t.patch_bias ? 1 : 0));
  PartDesc part;
  part.name = "all";
  part.product_flops_per_row = 2.0 * static_cast<double>(t.patch_values * t.width);
  // The patches come cut: they are the input and all that is kept.
  part.input_values_per_row = part.saved_values_per_row = static_cast<double>(t.patch_values);
  block.parts.push_back(part);
  block.output_values_per_row = static_cast<double>(t.width);
  block.num_uncut_parameters = block.num_parameters;
  return block;
}

PartDesc patch_attention(const PatchTowerArch& t, bool window) {
  const auto d = static_cast<double>(t.width);
  PartDesc part;
  part.name = "attention";
  part.product_flops_per_row = 2.0 * 4 * d * d;
  // Full attention: scores and weighted values, 2 products of 2 D per pair.
  if (window)
    part.attention_flops_per_row = 4.0 * d * static_cast<double>(t.window_rows);
  else
    part.attention_flops_per_pair = 4.0 * d;
  part.input_values_per_row = d;
  // The input and its norm; q, k, v; attention's result and log-sums.
  part.saved_values_per_row = 6 * d + static_cast<double>(t.num_heads);
  part.gathered_values_per_row = part.attended_values_per_row = d;
  return part;
}

PartDesc patch_mlp(const PatchTowerArch& t) {
  const auto d = static_cast<double>(t.width), f = static_cast<double>(t.ffn_width);
  PartDesc part;
  part.name = "mlp";
  part.product_flops_per_row = 2.0 * (t.gated ? 3 : 2) * d * f;
  part.input_values_per_row = d;
  part.saved_values_per_row = 2 * d + static_cast<double>(t.kept_hidden) * f;
  part.gathered_values_per_row = d;
  return part;
}

BlockDesc patch_layer(const PatchTowerArch& t, std::int64_t layer) {
  const std::int64_t d = t.width, f = t.ffn_width;
  const bool window =
      t.window_rows > 0 && std::ranges::find(t.full_layers, layer) == t.full_layers.end();
  BlockDesc block;
  block.name = "vision." + std::to_string(layer);
  block.kind = BlockKind::kVisionLayer;
  block.cost_class = window ? "vision_window_layer" : "vision_layer";
  block.num_parameters = 4 * d * d + 4 * d + (t.gated ? 3 * d * f + 2 * f + d : 2 * d * f + f + d) +
                         2 * layer_norm_values(t);
  block.num_uncut_parameters = 2 * d + 2 * layer_norm_values(t);  // norms, output biases
  block.parts = {patch_attention(t, window), patch_mlp(t)};
  block.output_values_per_row = static_cast<double>(d);
  block.tensor_reductions = 2;
  block.exchanged_values_per_row = 4 * static_cast<double>(d);
  const auto behind = std::ranges::find(t.deepstack, layer);
  if (behind != t.deepstack.end()) {
    const std::int64_t joined = d * t.merge * t.merge;
    block.cost_class = "vision_deepstack_layer";
    block.num_parameters += merger_parameters(t, 2 * joined);
    block.num_uncut_parameters += merger_parameters(t, 2 * joined);
    block.parts[1].product_flops_per_row += merger_flops_per_patch(t);
    // The norm's result and the hidden layer before and after its activation; the norm's input is
    // the block's output, which the next block keeps.
    block.parts[1].saved_values_per_row += 3 * static_cast<double>(d);
    block.tensor_reductions = 3;
  }
  const auto made = std::ranges::count_if(t.deepstack, [&](std::int64_t l) { return l <= layer; });
  block.carried_values_per_vision_row = static_cast<double>(made) * token_values_per_patch(t);
  return block;
}

BlockDesc patch_projector(const PatchTowerArch& t) {
  const auto d = static_cast<double>(t.width);
  BlockDesc block;
  block.name = "projector";
  block.kind = BlockKind::kProjector;
  block.cost_class = "projector";
  block.num_parameters = merger_parameters(t, layer_norm_values(t));
  block.num_uncut_parameters = block.num_parameters;
  PartDesc part;
  part.name = "all";
  part.product_flops_per_row = merger_flops_per_patch(t);
  part.input_values_per_row = d;
  // The input and its norm; the hidden layer before and after its activation.
  part.saved_values_per_row = 4 * d;
  block.parts.push_back(part);
  block.output_values_per_row = token_values_per_patch(t);
  block.carried_values_per_vision_row =
      static_cast<double>(t.deepstack.size()) * token_values_per_patch(t);
  block.tensor_reductions = 1;
  return block;
}

void add_patch_tower(const PatchTowerArch& t, ModelDesc& desc) {
  desc.blocks.push_back(patch_embed(t));
  for (std::int64_t layer = 0; layer < t.num_layers; ++layer)
    desc.blocks.push_back(patch_layer(t, layer));
  desc.blocks.push_back(patch_projector(t));
  desc.vision_row = "patch";
  desc.tokens_per_vision_row = 1.0 / static_cast<double>(t.merge * t.merge);
  desc.vision_heads = t.num_heads;
  desc.vision_ffn = t.ffn_width;
}

// The first text layers add one feature each; those that are left are carried on.
void carry_deepstack(const PatchTowerArch& t, ModelDesc& desc) {
  auto left = static_cast<std::int64_t>(t.deepstack.size());
  for (BlockDesc& block : desc.blocks) {
    if (block.kind != BlockKind::kTextEmbed && block.kind != BlockKind::kTextLayer) continue;
    if (block.kind == BlockKind::kTextLayer) left = std::max<std::int64_t>(left - 1, 0);
    block.carried_values_per_vision_row = static_cast<double>(left) * token_values_per_patch(t);
  }
}

// What the three towers read alike; `width_key` differs.
PatchTowerArch read_patch_tower(const ConfigReader& vision, const std::string& width_key,
                                std::int64_t width, std::int64_t depth, std::int64_t patch) {
  PatchTowerArch t;
  t.width = vision.count(width_key, width);
  t.num_layers = vision.layers("depth", "num_hidden_layers", depth);
  t.num_heads = vision.count("num_heads", "num_attention_heads", 16);
  if (t.width % t.num_heads != 0)
    vision.fail("num_heads",
                concat("is ", t.num_heads, ", which does not divide ", width_key, " ", t.width));
  const std::int64_t pixels = vision.side("patch_size", patch);
  t.patch_values =
      vision.count("in_channels", 3) * vision.side("temporal_patch_size", 2) * pixels * pixels;
  t.merge = vision.count("spatial_merge_size", 2);
  return t;
}

TextArch read_inner_text(const ConfigReader& config, const std::string& family) {
  const bool flat = family == "qwen2_vl_text" && !config.has("text_config");
  TextArch text = read_text_arch(flat ? config : config.part("text_config"), family);
  const bool outer = config.flag("tie_word_embeddings", false);
  // Of these transformers heeds the inner key for Qwen2-VL and Qwen2.5-VL only.
  text.tied = outer || (text.tied && family == "qwen2_vl_text");
  return text;
}

void check_out_width(const ConfigReader& vision, const std::string& key, const PatchTowerArch& t,
                     const TextArch& text) {
  if (t.out_width != text.width)
    vision.fail(key, concat("is ", t.out_width, " but the text's hidden_size is ", text.width,
                            ": visual tokens must be as wide as the text"));
}

}  // namespace

void describe_qwen2_vl(const ConfigReader& config, ModelDesc& desc) {
  const ConfigReader vision = config.part("vision_config");
  PatchTowerArch t = read_patch_tower(vision, "embed_dim", 1280, 32, 14);
  t.ffn_width = t.width * vision.count("mlp_ratio", 4);
  t.out_width = vision.count("hidden_size", 3584);
  if (vision.word("hidden_act", "quick_gelu") == "quick_gelu") t.kept_hidden = 3;
  const TextArch text = read_inner_text(config, "qwen2_vl_text");
  check_out_width(vision, "hidden_size", t, text);
  add_patch_tower(t, desc);
  add_text_arch(text, desc);
}

void describe_qwen2_5_vl(const ConfigReader& config, ModelDesc& desc) {
  const ConfigReader vision = config.part("vision_config");
  PatchTowerArch t = read_patch_tower(vision, "hidden_size", 3584, 32, 14);
  t.ffn_width = vision.count("intermediate_size", 3420);
  t.out_width = vision.count("out_hidden_size", 3584);
  t.rms_norm = t.gated = true;
  t.kept_hidden = is_silu(vision.word("hidden_act", "silu")) ? 3 : 4;
  const std::int64_t window = vision.count("window_size", 112);
  const std::int64_t patch = vision.side("patch_size", 14);
  // Whole visual tokens along a side of a window.
  const std::int64_t tokens = window / t.merge / patch;
  if (tokens < 1)
    vision.fail("window_size", concat("is ", window, " pixels, less than a visual token of ",
                                      t.merge * patch, " (patch_size x spatial_merge_size)"));
  t.window_rows = tokens * tokens * t.merge * t.merge;
  // Numbers behind the last layer name nothing, as in transformers.
  t.full_layers = vision.indices("fullatt_block_indexes", {7, 15, 23, 31}, 1 << 20);
  const TextArch text = read_inner_text(config, "qwen2_vl_text");
  check_out_width(vision, "out_hidden_size", t, text);
  add_patch_tower(t, desc);
  add_text_arch(text, desc);
}

void describe_qwen3_vl(const ConfigReader& config, ModelDesc& desc) {
  const ConfigReader vision = config.part("vision_config");
  PatchTowerArch t = read_patch_tower(vision, "hidden_size", 1152, 27, 16);
  t.ffn_width = vision.count("intermediate_size", 4304);
  t.out_width = vision.count("out_hidden_size", 3584);
  t.num_learned_places = vision.count("num_position_embeddings", 2304);
  t.patch_bias = true;
  if (vision.word("hidden_act", "gelu_pytorch_tanh") == "quick_gelu") t.kept_hidden = 3;
  t.deepstack = vision.indices("deepstack_visual_indexes", {8, 16, 24}, t.num_layers);
  const TextArch text = read_inner_text(config, "qwen3_vl_text");
  check_out_width(vision, "out_hidden_size", t, text);
  if (std::ssize(t.deepstack) > text.num_layers)
    vision.fail("deepstack_visual_indexes",
                concat("makes ", t.deepstack.size(), " features, but the text has only ",
                       text.num_layers, " layers to add them to"));
  add_patch_tower(t, desc);
  add_text_arch(text, desc);
  carry_deepstack(t, desc);
}

}  // namespace gimbal
