#include "gimbal/arch/families/internvl.h"

#include <array>
#include <cmath>
#include <utility>

#include "gimbal/arch/families/text.h"
#include "gimbal/arch/families/tile_tower.h"

namespace gimbal {
namespace {

struct PixelShuffle {
  std::int64_t joined_values = 0;  // of a visual token, before the projector
  std::int64_t num_tokens = 0;     // of a tile
};

// "layer_norm" or "rms_norm".
bool read_rms_norm(const ConfigReader& vision, const char* fallback) {
  const std::string norm = vision.word("norm_type", fallback);
  if (norm != "layer_norm" && norm != "rms_norm")
    vision.fail("norm_type", "is '" + norm + "'; it must be layer_norm or rms_norm");
  return norm == "rms_norm";
}

PixelShuffle read_shuffle(const ConfigReader& config, const TileTowerArch& tower,
                          std::int64_t side) {
  const double ratio = config.number("downsample_ratio", 0.5);
  const double joined = std::round(1.0 / ratio);
  if (!(ratio > 0 && ratio <= 1) || std::abs(joined * ratio - 1.0) > 1e-9)
    config.fail("downsample_ratio", concat("is ", ratio, "; it must be 1/n for a whole n"));
  const auto n = static_cast<std::int64_t>(joined);
  if (side % n != 0)
    config.fail("downsample_ratio", concat("is ", ratio, ": joins ", n,
                                           " patches along a side, but a tile has ", side));
  return {tower.width * n * n, tower.num_patches / (n * n)};
}

// Layer norm, linear, activation, linear; in front the tower's last norm if it has one.
void add_projector(const TileTowerArch& tower, const PixelShuffle& shuffle, const TextArch& text,
                   bool final_norm, ModelDesc& desc) {
  const std::int64_t joined = shuffle.joined_values, out = text.width, tokens = shuffle.num_tokens;
  const std::int64_t tower_values = tower.num_rows() * tower.width;
  BlockDesc block;
  block.name = "projector";
  block.kind = BlockKind::kProjector;
  block.cost_class = "projector";
  block.num_parameters =
      (final_norm ? 2 * tower.width : 0) + 2 * joined + joined * out + out + out * out + out;
  PartDesc part;
  part.name = "all";
  part.product_flops_per_row = 2.0 * static_cast<double>(tokens * (joined * out + out * out));
  part.input_values_per_row = static_cast<double>(tower_values);
  // The input; joined rows and their norm; the hidden layer before and after its activation.
  part.saved_values_per_row = static_cast<double>(tower_values + tokens * (2 * joined + 2 * out));
  block.parts.push_back(part);
  block.output_values_per_row = static_cast<double>(tokens * out);
  block.num_uncut_parameters = block.num_parameters;
  block.tensor_reductions = 1;
  desc.blocks.push_back(block);
  desc.tokens_per_vision_row = static_cast<double>(tokens);
}

// internvl_chat names its text part's type in the architecture where model_type is missing.
std::string chat_text_family(const ConfigReader& llm) {
  const std::string type = llm.word("model_type", "");
  if (!type.empty()) return type;
  constexpr std::array<std::pair<const char*, const char*>, 4> kFamilies{
      {{"Qwen2ForCausalLM", "qwen2"},
       {"Qwen3ForCausalLM", "qwen3"},
       {"LlamaForCausalLM", "llama"},
       {"InternLM2ForCausalLM", "internlm2"}}};
  for (const std::string& name : llm.words("architectures"))
    for (const auto& [architecture, family] : kFamilies)
      if (name == architecture) return family;
  llm.fail("model_type",
           "is missing, and key 'architectures' names no known text model "
           "(Qwen2ForCausalLM, Qwen3ForCausalLM, LlamaForCausalLM, InternLM2ForCausalLM)");
}

}  // namespace

void describe_internvl(const ConfigReader& config, ModelDesc& desc) {
  const ConfigReader vision = config.part("vision_config");
  TileTowerArch defaults;
  defaults.width = 1024;
  defaults.ffn_width = 4096;
  defaults.num_layers = 24;
  defaults.num_heads = 16;
  defaults.patch_size = 14;
  TileTowerArch tower = read_tile_tower(vision, defaults, 448);
  const std::int64_t side =
      patches_per_side(vision, vision.side("image_size", 448), tower.patch_size);
  tower.patch_bias = tower.layer_scale = true;
  tower.rms_norm = read_rms_norm(vision, "layer_norm");
  tower.qkv_bias = vision.flag("attention_bias", false);
  tower.qk_norm = vision.flag("use_qk_norm", false);
  tower.quick_gelu = vision.word("hidden_act", "gelu") == "quick_gelu";
  if (!vision.flag("use_absolute_position_embeddings", true)) tower.num_learned_places = 0;
  if (vision.flag("use_mask_token", false))
    vision.fail("use_mask_token",
                "is true; masked image modelling is not supported: set it to false");
  tower.num_used_layers = used_layers(config, "vision_feature_layer", -1, tower.num_layers);
  // transformers takes the last layer's result behind the norm, others before it.
  if (tower.num_used_layers != tower.num_layers)
    config.fail("vision_feature_layer", "must be the last layer, -1");
  const std::string strategy = config.word("vision_feature_select_strategy", "default");
  if (strategy != "default")
    config.fail("vision_feature_select_strategy",
                "is '" + strategy + "'; only 'default' (without the class token) is supported");
  const ConfigReader text_config = config.part("text_config");
  TextArch text = read_text_arch(text_config, text_config.word("model_type", "qwen2"));
  text.tied = config.flag("tie_word_embeddings", true);
  const PixelShuffle shuffle = read_shuffle(config, tower, side);
  const std::int64_t tokens = config.count("image_seq_length", 256);
  if (tokens != shuffle.num_tokens)
    config.fail("image_seq_length",
                concat("is ", tokens, " but image_size, patch_size and downsample_ratio give ",
                       shuffle.num_tokens, " tokens a tile"));
  add_tile_tower(tower, desc);
  add_projector(tower, shuffle, text, !vision.flag("use_mean_pooling", true), desc);
  add_text_arch(text, desc);
}

void describe_internvl_chat(const ConfigReader& config, ModelDesc& desc) {
  const ConfigReader vision = config.part("vision_config");
  // Defaults of InternVisionConfig: InternViT-6B.
  TileTowerArch defaults;
  defaults.width = 3200;
  defaults.ffn_width = 12800;
  defaults.num_layers = 48;
  defaults.num_heads = 25;
  defaults.patch_size = 14;
  TileTowerArch tower = read_tile_tower(vision, defaults, 224);
  tower.patch_bias = tower.layer_scale = true;
  tower.rms_norm = read_rms_norm(vision, "rms_norm");
  tower.qkv_bias = vision.flag("qkv_bias", false);
  tower.qk_norm = vision.flag("qk_normalization", true);
  tower.quick_gelu = vision.word("hidden_act", "gelu") == "quick_gelu";
  tower.num_used_layers = used_layers(config, "select_layer", -1, tower.num_layers);
  for (const char* key : {"use_backbone_lora", "use_llm_lora"})
    if (config.integer(key, 0) != 0)
      config.fail(key, "asks for LoRA adapters, which are not supported; set it to 0");
  // The tower is made for the vision part's image_size; tiles have the outer size, for which the
  // learned positions are interpolated.
  const std::int64_t image_size = config.count("force_image_size", vision.side("image_size", 224));
  const std::int64_t side = patches_per_side(vision, image_size, tower.patch_size);
  tower.num_patches = side * side;
  const ConfigReader llm = config.part("llm_config");
  const TextArch text = read_text_arch(llm, chat_text_family(llm));
  const PixelShuffle shuffle = read_shuffle(config, tower, side);
  add_tile_tower(tower, desc);
  add_projector(tower, shuffle, text, false, desc);
  add_text_arch(text, desc);
}

}  // namespace gimbal
