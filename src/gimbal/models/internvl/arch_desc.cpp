#include "gimbal/models/internvl/arch_desc.h"

namespace gimbal {
namespace {

double as_double(std::int64_t count) { return static_cast<double>(count); }

BlockDesc describe_vision_embed(const InternVlVisionConfig& v) {
  const std::int64_t patch_values = v.num_channels * v.patch_size * v.patch_size;
  BlockDesc block;
  block.name = "vision.embed";
  block.kind = BlockKind::kVisionEmbed;
  block.num_parameters =
      v.width * (1 + (v.position_embeddings ? v.num_rows() : 0) + patch_values + 1);
  block.flops_per_row = 2.0 * as_double(v.num_patches() * patch_values * v.width);
  block.saved_values_per_row = as_double(v.num_patches() * patch_values);
  block.output_values_per_row = as_double(v.num_rows() * v.width);
  return block;
}

BlockDesc describe_vision_layer(const InternVlVisionConfig& v, std::int64_t layer) {
  const std::int64_t d = v.width, f = v.ffn_width, rows = v.num_rows();
  const std::int64_t products = 4 * d * d + 2 * d * f;
  const std::int64_t norms = 2 * d * (v.rms_norm ? 1 : 2) + (v.qk_norm ? 2 * d : 0);
  BlockDesc block;
  block.name = "vision." + std::to_string(layer);
  block.kind = BlockKind::kVisionLayer;
  block.num_parameters = products + (v.attention_bias ? 3 * d : 0) + d + f + d + norms + 2 * d;
  // Full attention: scores and weighted values, 2 products of 2 D per pair of rows.
  block.flops_per_row = 2.0 * as_double(rows * products) + 4.0 * as_double(rows * rows * d);
  // Inputs of both norms and of the products behind them; q, k, v, and their values before the
  // norm; attention's result and log-sums; the two values that layer scale multiplies; the
  // feed-forward layer before and after its activation.
  block.saved_values_per_row =
      as_double(rows * (4 * d + 4 * d + (v.qk_norm ? 2 * d : 0) + v.num_heads + 2 * d + 2 * f));
  block.output_values_per_row = as_double(rows * d);
  return block;
}

BlockDesc describe_projector(const InternVlConfig& c) {
  const std::int64_t joined = c.joined_width(), text = c.text.width, tokens = c.tokens_per_tile();
  BlockDesc block;
  block.name = "projector";
  block.kind = BlockKind::kProjector;
  block.num_parameters = (c.vision.final_norm ? 2 * c.vision.width : 0) + 2 * joined +
                         joined * text + text + text * text + text;
  block.flops_per_row = 2.0 * as_double(tokens * (joined * text + text * text));
  block.saved_values_per_row =
      as_double(tokens * (2 * joined + 2 * text)) +
      (c.vision.final_norm ? as_double(c.vision.num_rows() * c.vision.width) : 0.0);
  block.output_values_per_row = as_double(tokens * text);
  return block;
}

}  // namespace

void describe_vision(const InternVlConfig& config, ModelDesc& desc) {
  desc.blocks.push_back(describe_vision_embed(config.vision));
  for (std::int64_t layer = 0; layer < config.vision.num_layers; ++layer)
    desc.blocks.push_back(describe_vision_layer(config.vision, layer));
  desc.blocks.push_back(describe_projector(config));
}

}  // namespace gimbal
