#include "gimbal/arch/families/tile_tower.h"

namespace gimbal {
namespace {

double tile_values(std::int64_t count) { return static_cast<double>(count); }

BlockDesc tile_embed(const TileTowerArch& t) {
  const std::int64_t patch_values = t.num_channels * t.patch_size * t.patch_size;
  BlockDesc block;
  block.name = "vision.embed";
  block.kind = BlockKind::kVisionEmbed;
  block.cost_class = "vision_embed";
  block.num_parameters = t.width * (1 + t.num_learned_places + patch_values) +
                         (t.patch_bias ? t.width : 0) + (t.embed_norm ? 2 * t.width : 0);
  PartDesc part;
  part.name = "all";
  part.product_flops_per_row = 2.0 * tile_values(t.num_patches * patch_values * t.width);
  // The cut patches, and the input of the norm. Pixels are as many: nothing is won by recompute.
  part.saved_values_per_row =
      tile_values(t.num_patches * patch_values + (t.embed_norm ? t.num_rows() * t.width : 0));
  part.input_values_per_row = part.saved_values_per_row;
  block.parts.push_back(part);
  block.output_values_per_row = tile_values(t.num_rows() * t.width);
  block.num_uncut_parameters = block.num_parameters;
  return block;
}

BlockDesc tile_layer(const TileTowerArch& t, std::int64_t layer) {
  const std::int64_t d = t.width, f = t.ffn_width, rows = t.num_rows();
  const std::int64_t norms = 2 * d * (t.rms_norm ? 1 : 2) + (t.qk_norm ? 2 * d : 0);
  BlockDesc block;
  block.name = "vision." + std::to_string(layer);
  block.kind = BlockKind::kVisionLayer;
  block.cost_class = "vision_layer";
  block.num_parameters = 4 * d * d + 2 * d * f + (t.qkv_bias ? 3 * d : 0) + d + f + d + norms +
                         (t.layer_scale ? 2 * d : 0);
  // Norms (those of q and k are cut), biases of the products whose rows are cut, layer scale.
  block.num_uncut_parameters =
      norms - (t.qk_norm ? 2 * d : 0) + d + d + (t.layer_scale ? 2 * d : 0);
  block.output_values_per_row = tile_values(rows * d);
  block.tensor_reductions = 2;
  PartDesc attention;
  attention.name = "attention";
  attention.product_flops_per_row = 2.0 * tile_values(rows * 4 * d * d);
  // Scores and weighted values: 2 products of 2 D per pair of rows, all pairs of the tile.
  attention.attention_flops_per_row = 4.0 * tile_values(rows * rows * d);
  attention.input_values_per_row = tile_values(rows * d);
  // The input and its norm; q, k, v, and q and k before their norm; attention's result and
  // log-sums; the value that layer scale multiplies.
  attention.saved_values_per_row =
      tile_values(rows * (6 * d + (t.qk_norm ? 2 * d : 0) + t.num_heads + (t.layer_scale ? d : 0)));
  attention.gathered_values_per_row = attention.attended_values_per_row = tile_values(rows * d);
  PartDesc mlp;
  mlp.name = "mlp";
  mlp.product_flops_per_row = 2.0 * tile_values(rows * 2 * d * f);
  mlp.input_values_per_row = tile_values(rows * d);
  // The input and its norm; the hidden layer before and after its activation (quick_gelu keeps its
  // sigmoid besides); the value that layer scale multiplies.
  mlp.saved_values_per_row =
      tile_values(rows * (2 * d + (t.quick_gelu ? 3 : 2) * f + (t.layer_scale ? d : 0)));
  mlp.gathered_values_per_row = tile_values(rows * d);
  block.parts = {attention, mlp};
  return block;
}

// Nothing is kept for the backward pass that such a layer does not have.
void mark_unused(const TileTowerArch& t, std::int64_t layer, BlockDesc& block) {
  block.unused = true;
  for (PartDesc& part : block.parts) {
    part.input_values_per_row = part.saved_values_per_row = 0;
    part.gathered_values_per_row = part.attended_values_per_row = 0;
  }
  // The used layer's result waits for the projector while the stream goes on beside it.
  if (layer + 1 < t.num_layers)
    block.carried_values_per_vision_row = tile_values(t.num_rows() * t.width);
}

}  // namespace

std::int64_t patches_per_side(const ConfigReader& config, std::int64_t image_size,
                              std::int64_t patch_size) {
  if (image_size < patch_size)
    config.fail("patch_size", concat("is ", patch_size, ", larger than a tile of ", image_size,
                                     " pixels (image_size)"));
  return image_size / patch_size;
}

TileTowerArch read_tile_tower(const ConfigReader& config, const TileTowerArch& defaults,
                              std::int64_t default_image_size) {
  TileTowerArch t = defaults;
  t.width = config.count("hidden_size", defaults.width);
  t.ffn_width = config.count("intermediate_size", defaults.ffn_width);
  t.num_layers = config.layers("num_hidden_layers", defaults.num_layers);
  t.num_used_layers = t.num_layers;
  t.num_heads = config.count("num_attention_heads", defaults.num_heads);
  if (t.width % t.num_heads != 0)
    config.fail("num_attention_heads",
                concat("is ", t.num_heads, ", which does not divide hidden_size ", t.width));
  t.num_channels = config.count("num_channels", 3);
  t.patch_size = config.side("patch_size", defaults.patch_size);
  const std::int64_t side =
      patches_per_side(config, config.side("image_size", default_image_size), t.patch_size);
  t.num_patches = side * side;
  t.num_learned_places = t.num_rows();
  return t;
}

std::int64_t used_layers(const ConfigReader& config, const std::string& key, std::int64_t fallback,
                         std::int64_t num_layers) {
  const std::int64_t layer = config.integer(key, fallback);
  const std::int64_t used = layer < 0 ? num_layers + 1 + layer : layer;
  if (used < 1 || used > num_layers)
    config.fail(key, concat("is ", layer, "; it must name one of the tower's ", num_layers,
                            " layers: 1 to ", num_layers, ", or -1 (the last) to ", -num_layers));
  return used;
}

void add_tile_tower(const TileTowerArch& t, ModelDesc& desc) {
  desc.blocks.push_back(tile_embed(t));
  for (std::int64_t layer = 0; layer < t.num_layers; ++layer) {
    BlockDesc block = tile_layer(t, layer);
    if (layer >= t.num_used_layers) mark_unused(t, layer, block);
    desc.blocks.push_back(block);
  }
  desc.blocks.back().num_parameters += t.end_norm_values;
  desc.blocks.back().num_uncut_parameters += t.end_norm_values;
  desc.vision_row = "tile";
  desc.vision_heads = t.num_heads;
  desc.vision_ffn = t.ffn_width;
}

}  // namespace gimbal
