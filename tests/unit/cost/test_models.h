// Small models as data, counted by hand, for tests of costs.
#pragma once

#include <string>

#include "gimbal/arch/model_desc.h"
#include "gimbal/cost/cost_model.h"
#include "gimbal/cost/hardware.h"

namespace gimbal::testing {

struct LayerShape {
  double width = 8, ffn = 32, kv_width = 8, heads = 2;
  bool gated = true;     // three products in the feed-forward part; otherwise two
  double tile_rows = 0;  // above 0: a vision layer whose rows are tiles of so many patches
  double experts = 0, experts_per_row = 0;  // above 0: routed
};

inline BlockDesc layer_block(const std::string& name, const LayerShape& s) {
  const double patches = s.tile_rows > 0 ? s.tile_rows : 1;
  const double attention_parameters = 2 * s.width * s.width + 2 * s.width * s.kv_width;
  const double ffn_parameters = (s.gated ? 3 : 2) * s.width * s.ffn;
  BlockDesc block;
  block.name = name;
  block.kind = s.tile_rows > 0 ? BlockKind::kVisionLayer : BlockKind::kTextLayer;
  block.cost_class = s.tile_rows > 0 ? "vision_layer"
                     : s.experts > 0 ? "text_moe_layer"
                                     : "text_layer";
  PartDesc attention, mlp;
  attention.name = "attention";
  attention.product_flops_per_row = 2 * attention_parameters * patches;
  if (s.tile_rows > 0) {
    attention.attention_flops_per_row = 4 * s.width * patches * patches;
  } else {
    attention.attention_flops_per_pair = 2 * s.width;
  }
  attention.input_values_per_row = s.width * patches;
  attention.saved_values_per_row = (4 * s.width + 2 * s.kv_width + s.heads) * patches;
  mlp.name = "mlp";
  const double routes = s.experts > 0 ? s.experts_per_row : 1;
  mlp.product_flops_per_row = 2 * ffn_parameters * patches * routes;
  mlp.input_values_per_row = s.width * patches;
  mlp.saved_values_per_row = (2 * s.width + (s.gated ? 3 : 2) * s.ffn * routes) * patches;
  block.parts = {attention, mlp};
  block.num_expert_parameters =
      static_cast<std::int64_t>(s.experts > 0 ? s.experts * ffn_parameters : 0);
  block.num_parameters =
      static_cast<std::int64_t>(attention_parameters + 2 * s.width) +
      (s.experts > 0 ? block.num_expert_parameters : static_cast<std::int64_t>(ffn_parameters));
  block.output_values_per_row = s.width * patches;
  block.tensor_reductions = 2;
  block.exchanged_values_per_row = s.tile_rows > 0 ? 0 : 2 * s.width + 2 * s.kv_width;
  block.dispatched_values_per_row = s.experts > 0 ? s.experts_per_row * s.width : 0;
  return block;
}

/// A block of one part: embedding, projector, norm or head.
inline BlockDesc plain_block(BlockKind kind, const std::string& name, double parameters,
                             double flops, double input, double saved, double output) {
  BlockDesc block;
  block.kind = kind;
  block.name = name;
  block.cost_class = name;
  block.num_parameters = static_cast<std::int64_t>(parameters);
  PartDesc part;
  part.name = "all";
  part.product_flops_per_row = flops;
  part.input_values_per_row = input;
  part.saved_values_per_row = saved;
  block.parts = {part};
  block.output_values_per_row = output;
  return block;
}

/// text.embed, layers, text.norm, text.head.
inline ModelDesc text_model(int layers, const LayerShape& shape, double vocab) {
  ModelDesc model;
  model.type = "test";
  const double width = shape.width;
  model.blocks.push_back(
      plain_block(BlockKind::kTextEmbed, "text_embed", vocab * width, 0, 0, 0, width));
  for (int i = 0; i < layers; ++i)
    model.blocks.push_back(layer_block("text." + std::to_string(i), shape));
  model.blocks.push_back(
      plain_block(BlockKind::kTextNorm, "text_norm", width, 0, width, width, width));
  model.blocks.push_back(plain_block(BlockKind::kTextHead, "text_head", vocab * width,
                                     2 * vocab * width, 2 * width, 2 * width, 0));
  model.vocab_size = static_cast<std::int64_t>(vocab);
  return model;
}

/// vision_embed and layers in front of a text model.
inline ModelDesc vision_text_model(int vision_layers, const LayerShape& vision, int text_layers,
                                   const LayerShape& text, double vocab) {
  ModelDesc model = text_model(text_layers, text, vocab);
  std::vector<BlockDesc> blocks;
  const double values = vision.width * vision.tile_rows;
  blocks.push_back(plain_block(BlockKind::kVisionEmbed, "vision_embed", 588 * vision.width,
                               2 * 588 * values, 588 * vision.tile_rows, 588 * vision.tile_rows,
                               values));
  for (int i = 0; i < vision_layers; ++i)
    blocks.push_back(layer_block("vision." + std::to_string(i), vision));
  blocks.insert(blocks.end(), model.blocks.begin(), model.blocks.end());
  model.blocks = blocks;
  model.vision_row = "tile";
  return model;
}

inline LayerShape small_vision() { return {.width = 6, .ffn = 24, .kv_width = 6, .tile_rows = 5}; }

/// A machine of round numbers: 1e12 FLOP/s, 1e11 bytes/s, links of 1e10 and 1e9 bytes/s, 4 devices
/// in a node, no fixed costs.
inline Hardware round_machine() {
  Hardware hardware;
  hardware.name = "round";
  hardware.peak_flops = {{"bfloat16", 1e12}, {"float32", 1e11}};
  hardware.memory_bandwidth = 1e11;
  hardware.memory_bytes = 1e10;
  hardware.reserved_bytes = 1e9;
  hardware.links = {.inside_node = {.latency = 0, .bytes_per_second = 1e10},
                    .between_nodes = {.latency = 0, .bytes_per_second = 1e9},
                    .devices_per_node = 4};
  hardware.efficiency = {{"vision_products", 0.5},
                         {"vision_attention", 0.25},
                         {"text_products", 0.5},
                         {"text_attention", 0.25},
                         {"head", 0.5}};
  return hardware;
}

inline CostSettings on_mesh(const MeshShape& mesh) {
  CostSettings settings;
  settings.mesh = mesh;
  return settings;
}

}  // namespace gimbal::testing
