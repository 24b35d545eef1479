// A small model with vision, projector and text, and a profile of it with round numbers.
#pragma once

#include <array>
#include <utility>
#include <vector>

#include "gimbal/arch/model_desc.h"
#include "gimbal/cost/cost_model.h"
#include "gimbal/sim/step.h"

namespace gimbal::testing {

/// vision.embed, `vision_layers` layers, projector, text.embed, `text_layers` layers, norm, head.
inline ModelDesc small_model(int vision_layers = 3, int text_layers = 4) {
  ModelDesc model;
  model.type = "small";
  model.vision_row = "tile";
  model.tokens_per_vision_row = 4;
  const auto add = [&](const char* name, BlockKind kind, const char* cost_class,
                       std::int64_t parameters, double output, bool layer) {
    BlockDesc block;
    block.name = name;
    block.kind = kind;
    block.cost_class = cost_class;
    block.num_parameters = parameters;
    block.output_values_per_row = output;
    PartDesc part;
    part.name = layer ? "attention" : "all";
    part.input_values_per_row = output;
    part.saved_values_per_row = 4 * output;
    block.parts.push_back(part);
    if (layer) {
      part.name = "mlp";
      block.parts.push_back(part);
      block.tensor_reductions = 2;
    }
    model.blocks.push_back(block);
  };
  add("vision.embed", BlockKind::kVisionEmbed, "vision_embed", 1000, 80, false);
  for (int i = 0; i < vision_layers; ++i) {
    add("vision.layer", BlockKind::kVisionLayer, "vision_layer", 4000, 80, true);
  }
  add("projector", BlockKind::kProjector, "projector", 500, 64, false);
  add("text.embed", BlockKind::kTextEmbed, "text_embed", 9000, 16, false);
  for (int i = 0; i < text_layers; ++i) {
    add("text.layer", BlockKind::kTextLayer, "text_layer", 6000, 16, true);
  }
  add("text.norm", BlockKind::kTextNorm, "text_norm", 16, 16, false);
  add("text.head", BlockKind::kTextHead, "text_head", 9000, 1, false);
  return model;
}

inline BlockCost block_cost(double per_row, double per_pair, double saved_per_row) {
  BlockCost cost;
  cost.forward = {0.001, per_row, per_pair};
  cost.backward_input = {0.001, 1.1 * per_row, 2 * per_pair};
  cost.backward_weight = {0.0005, 0.9 * per_row, 0};
  const std::array<double, kNumRecomputeLevels> share = {0, 0.4, 0.6, 1};
  for (std::size_t level = 0; level < kNumRecomputeLevels; ++level) {
    cost.recompute[level] = {0, share[level] * per_row, share[level] * per_pair};
    cost.saved[level] = {0, saved_per_row * (1.25 - share[level]), 0};
    cost.backward_workspace[level] = {64, saved_per_row * (0.5 + share[level]), 0};
  }
  cost.forward_workspace = {32, 0.25 * saved_per_row, 0};
  cost.output = {0, 16, 0};
  return cost;
}

inline ProfileTable small_profile() {
  ProfileTable profile;
  profile.origin = "analytic";
  profile.hardware = "toy";
  profile.dtype = "bfloat16";
  profile.memory_bytes = 1e9;
  profile.blocks["vision_embed"] = block_cost(0.0002, 0, 80);
  profile.blocks["vision_layer"] = block_cost(0.004, 0, 800);
  profile.blocks["projector"] = block_cost(0.0005, 0, 64);
  profile.blocks["text_embed"] = block_cost(0.00001, 0, 16);
  profile.blocks["text_layer"] = block_cost(0.0002, 1e-7, 160);
  profile.blocks["text_norm"] = block_cost(0.00001, 0, 16);
  profile.blocks["text_head"] = block_cost(0.0004, 0, 320);
  profile.optimizer_per_parameter = 1e-6;
  profile.step_overhead = 0.01;
  profile.links = {{1e-4, 1e6}, {2e-4, 5e5}, 8};
  return profile;
}

inline CostSettings settings_for(MeshShape mesh, ShardPolicy policy = ShardPolicy::kKeepWeights) {
  CostSettings settings;
  settings.mesh = mesh;
  settings.shard_policy = policy;
  return settings;
}

/// Stages with about equally many blocks, all at `level`.
inline StageLayout even_layout(std::size_t num_blocks, int num_stages,
                               Recompute level = Recompute::kKeep) {
  StageLayout layout;
  for (int s = 0; s <= num_stages; ++s) {
    layout.stage_begin.push_back(num_blocks * static_cast<std::size_t>(s) /
                                 static_cast<std::size_t>(num_stages));
  }
  layout.recompute.assign(num_blocks, level);
  return layout;
}

/// Work of a micro-batch with `tiles` and `tokens` in samples of about 50 tokens.
inline WorkSize work_of(double tiles, double tokens) {
  WorkSize work;
  work.text_rows = tokens;
  work.text_pairs = 50 * tokens;
  work.loss_rows = 0.4 * tokens;
  work.vision_rows = tiles;
  return work;
}

}  // namespace gimbal::testing
