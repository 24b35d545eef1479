// Settings of the InternVL family, read from a config.json as transformers writes it.
#pragma once

#include <cstdint>
#include <string>

#include "gimbal/base/json.h"
#include "gimbal/models/text/config.h"
#include "gimbal/nn/ops/activation.h"

namespace gimbal {

struct InternVlVisionConfig {
  std::int64_t width = 0;      // D
  std::int64_t ffn_width = 0;  // F
  std::int64_t num_layers = 0;
  std::int64_t num_heads = 0;
  std::int64_t num_channels = 3;
  std::int64_t image_size = 0;  // pixels of a tile's side
  std::int64_t patch_size = 0;
  Activation activation = Activation::kGelu;
  double norm_eps = 1e-6;
  double initializer_range = 0.02;
  double layer_scale = 0.1;  // initial value of lambda_1 and lambda_2
  bool rms_norm = false;     // in the layers; otherwise layer norm
  bool attention_bias = false;
  bool qk_norm = false;
  bool position_embeddings = true;
  bool final_norm = false;  // the tower ends with a layer norm (use_mean_pooling false)

  std::int64_t head_dim() const { return width / num_heads; }
  std::int64_t grid() const { return image_size / patch_size; }
  std::int64_t num_patches() const { return grid() * grid(); }
  std::int64_t num_rows() const { return num_patches() + 1; }  // S, with the class token
};

struct InternVlConfig {
  InternVlVisionConfig vision;
  TextConfig text;
  std::int64_t image_token_id = 0;
  std::int64_t shuffle = 2;  // patches joined along a side: 1 / downsample_ratio
  Activation projector_activation = Activation::kGelu;

  std::int64_t joined_width() const { return vision.width * shuffle * shuffle; }
  std::int64_t tokens_per_tile() const { return vision.num_patches() / (shuffle * shuffle); }
};

/// Absent keys have transformers' defaults. `tie_word_embeddings` is the outer one, true by
/// default: transformers ignores the text part's. Throws UserError naming `where` and the key for
/// what is not supported: dropout, other feature layers than the last, strategy "full", mask
/// tokens, tiles that are not square, ratios that are no 1/n.
InternVlConfig parse_internvl_config(const Json& config, const std::string& where);

}  // namespace gimbal
