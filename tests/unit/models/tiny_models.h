// Tiny configurations of the model families, batches for them, and one pass through a model without
// a store.
#pragma once

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>

#include <functional>
#include <string>
#include <vector>

#include "gimbal/base/error.h"
#include "gimbal/models/model.h"

namespace gimbal::tiny_models {

inline Json text_config(const std::string& family) {
  return {{"model_type", family},        {"vocab_size", 40},       {"hidden_size", 16},
          {"intermediate_size", 24},     {"num_hidden_layers", 2}, {"num_attention_heads", 4},
          {"num_key_value_heads", 2},    {"head_dim", 4},          {"max_position_embeddings", 64},
          {"tie_word_embeddings", false}};
}

/// Tiles of 16 patches, 4 tokens each. Tied, as transformers has it by default.
inline Json internvl_config(const std::string& family) {
  return {{"model_type", "internvl"},
          {"text_config", text_config(family)},
          {"vision_config",
           {{"hidden_size", 12},
            {"num_hidden_layers", 2},
            {"num_attention_heads", 3},
            {"intermediate_size", 20},
            {"image_size", {8, 8}},
            {"patch_size", 2}}},
          {"image_token_id", 3},
          {"image_seq_length", 4}};
}

/// Root mean square norms, norms of queries and keys, biases, a last norm of the tower; untied.
inline Json rich_internvl_config(const std::string& family) {
  Json config = internvl_config(family);
  config["tie_word_embeddings"] = false;
  Json& vision = config["vision_config"];
  vision["norm_type"] = "rms_norm";
  vision["use_qk_norm"] = true;
  vision["attention_bias"] = true;
  vision["use_mean_pooling"] = false;
  config["text_config"]["attention_bias"] = true;
  config["text_config"]["mlp_bias"] = true;
  return config;
}

/// Samples of the given lengths; with image places, those of more than 5 tokens have one tile
/// behind their first token.
inline Batch text_batch(const std::vector<std::int64_t>& lengths, bool with_image_places) {
  Batch batch;
  batch.text_cu_seqlens = {0};
  std::vector<std::int64_t> ids, positions, rows, places;
  for (const std::int64_t length : lengths) {
    for (std::int64_t i = 0; i < length; ++i) {
      const auto row = static_cast<std::int64_t>(ids.size());
      const bool image = with_image_places && length > 5 && i >= 1 && i < 5;
      if (image) places.push_back(row);
      ids.push_back(image ? 3 : 5 + (7 * row + i) % 30);
      positions.push_back(i);
      if (i + 1 < length && i >= 5) rows.push_back(row);
    }
    batch.text_cu_seqlens.push_back(static_cast<std::int64_t>(ids.size()));
  }
  batch.token_ids_T = at::tensor(ids, at::kLong);
  batch.positions_T = at::tensor(positions, at::kLong);
  batch.image_rows_R = at::tensor(places, at::kLong);
  batch.loss_rows_Q = at::tensor(rows, at::kLong);
  batch.targets_Q = batch.token_ids_T.index_select(0, batch.loss_rows_Q + 1);
  batch.loss_weights_Q = at::ones({batch.loss_rows_Q.size(0)}, at::kFloat);
  batch.num_tiles = static_cast<std::int64_t>(places.size()) / 4;
  batch.pixels_ICYX =
      at::randn({batch.num_tiles, 3, 8, 8}, at::make_generator<at::CPUGeneratorImpl>(11));
  keep_rows_on_host(batch);
  return batch;
}

/// Binds every parameter to a fresh leaf.
inline void bind(Model& model, at::ScalarType dtype) {
  for (const ParameterPtr& p : model.parameters())
    p->value = initial_values(*p, 1).to(dtype).contiguous().requires_grad_(true);
}

inline Flow run_blocks(const Model& model, const PassContext& context) {
  Flow flow;
  for (const auto& block : model.blocks) flow = block->forward(context, flow);
  return flow;
}

inline at::Tensor loss_of(const Model& model, const Batch& batch) {
  return run_blocks(model, {batch}).loss;
}

inline std::string error_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const UserError& e) {
    return e.what();
  }
  return "no error";
}

}  // namespace gimbal::tiny_models
