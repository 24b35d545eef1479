#include "gimbal/arch/families/llava.h"

#include "gimbal/arch/families/text.h"
#include "gimbal/arch/families/tile_tower.h"

namespace gimbal {
namespace {

TileTowerArch read_clip(const ConfigReader& config, const ConfigReader& vision) {
  const std::string type = vision.word("model_type", "clip_vision_model");
  if (type != "clip_vision_model")
    vision.fail("model_type", "is '" + type + "'; the known vision tower is clip_vision_model");
  TileTowerArch defaults;
  const bool given = config.has("vision_config");
  // A given part has CLIP's own defaults; without one, LLaVA names the large tower.
  defaults.width = given ? 768 : 1024;
  defaults.ffn_width = given ? 3072 : 4096;
  defaults.num_layers = given ? 12 : 24;
  defaults.num_heads = given ? 12 : 16;
  defaults.patch_size = given ? 32 : 14;
  TileTowerArch tower = read_tile_tower(vision, defaults, given ? 224 : 336);
  tower.embed_norm = tower.qkv_bias = true;
  tower.quick_gelu = vision.word("hidden_act", "quick_gelu") == "quick_gelu";
  tower.end_norm_values = 2 * tower.width;
  tower.num_used_layers = used_layers(config, "vision_feature_layer", -2, tower.num_layers);
  return tower;
}

}  // namespace

void describe_llava(const ConfigReader& config, ModelDesc& desc) {
  const TileTowerArch tower = read_clip(config, config.part("vision_config"));
  const std::string strategy = config.word("vision_feature_select_strategy", "default");
  if (strategy != "default" && strategy != "full")
    config.fail("vision_feature_select_strategy",
                "is '" + strategy + "'; it must be default (without the class token) or full");
  const bool bias = config.flag("multimodal_projector_bias", true);
  const ConfigReader text_config = config.part("text_config");
  TextArch text = read_text_arch(text_config, text_config.word("model_type", "llama"));
  text.tied = text.tied || config.flag("tie_word_embeddings", false);
  add_tile_tower(tower, desc);

  const std::int64_t d = tower.width, out = text.width;
  const std::int64_t tokens = strategy == "full" ? tower.num_rows() : tower.num_patches;
  BlockDesc block;
  block.name = "projector";
  block.kind = BlockKind::kProjector;
  block.cost_class = "projector";
  block.num_parameters = d * out + out * out + (bias ? 2 * out : 0);
  PartDesc part;
  part.name = "all";
  part.product_flops_per_row = 2.0 * static_cast<double>(tokens * (d * out + out * out));
  part.input_values_per_row = static_cast<double>(tower.num_rows() * d);
  // The input; the hidden layer before and after its activation.
  part.saved_values_per_row = part.input_values_per_row + static_cast<double>(tokens * 2 * out);
  block.parts.push_back(part);
  block.output_values_per_row = static_cast<double>(tokens * out);
  block.num_uncut_parameters = block.num_parameters;
  block.tensor_reductions = 1;
  desc.blocks.push_back(block);
  desc.tokens_per_vision_row = static_cast<double>(tokens);
  add_text_arch(text, desc);
}

}  // namespace gimbal
