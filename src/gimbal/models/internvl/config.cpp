#include "gimbal/models/internvl/config.h"

#include <cmath>
#include <vector>

#include "gimbal/models/config_keys.h"

namespace gimbal {
namespace {

// A number, or two equal ones.
std::int64_t read_side(const Json& config, const std::string& key, std::int64_t fallback,
                       const std::string& where) {
  if (!config.contains(key) || !config.at(key).is_array())
    return read_count(config, key, fallback, where);
  const auto sides = json_get<std::vector<std::int64_t>>(config, key, where);
  GIMBAL_USER_CHECK(sides.size() == 2 && sides[0] == sides[1] && sides[0] >= 1, where, ": key '",
                    key, "' must be one number or two equal ones: only square tiles are supported");
  return sides[0];
}

InternVlVisionConfig parse_vision(const Json& config, const std::string& where) {
  InternVlVisionConfig v;
  v.width = read_count(config, "hidden_size", 1024, where);
  v.ffn_width = read_count(config, "intermediate_size", 4096, where);
  v.num_layers = read_count(config, "num_hidden_layers", 24, where);
  v.num_heads = read_count(config, "num_attention_heads", 16, where);
  GIMBAL_USER_CHECK(v.width % v.num_heads == 0, where, ": hidden_size ", v.width,
                    " is no multiple of key 'num_attention_heads' ", v.num_heads);
  v.num_channels = read_count(config, "num_channels", 3, where);
  GIMBAL_USER_CHECK(v.num_channels == 3, where, ": key 'num_channels' is ", v.num_channels,
                    "; pictures have 3");
  v.image_size = read_side(config, "image_size", 448, where);
  v.patch_size = read_side(config, "patch_size", 14, where);
  GIMBAL_USER_CHECK(v.image_size % v.patch_size == 0, where, ": key 'image_size' ", v.image_size,
                    " is no multiple of patch_size ", v.patch_size);
  v.activation = read_activation(config, "hidden_act", "gelu", where);
  v.norm_eps = json_get_or<double>(config, "layer_norm_eps", 1e-6, where);
  v.initializer_range = read_initializer_range(config, where);
  v.layer_scale = json_get_or<double>(config, "layer_scale_init_value", 0.1, where);
  const auto norm = json_get_or<std::string>(config, "norm_type", "layer_norm", where);
  GIMBAL_USER_CHECK(norm == "layer_norm" || norm == "rms_norm", where, ": key 'norm_type' is '",
                    norm, "'; it must be layer_norm or rms_norm");
  v.rms_norm = norm == "rms_norm";
  v.attention_bias = json_get_or<bool>(config, "attention_bias", false, where);
  v.qk_norm = json_get_or<bool>(config, "use_qk_norm", false, where);
  v.position_embeddings =
      json_get_or<bool>(config, "use_absolute_position_embeddings", true, where);
  v.final_norm = !json_get_or<bool>(config, "use_mean_pooling", true, where);
  GIMBAL_USER_CHECK(
      !json_get_or<bool>(config, "use_mask_token", false, where), where,
      ": key 'use_mask_token' is true; masked image modelling is not supported: set it to false");
  for (const char* key : {"hidden_dropout_prob", "attention_dropout", "projection_dropout"})
    refuse_dropout(config, key, where);
  return v;
}

void check_features(const Json& config, const std::string& where) {
  if (config.contains("vision_feature_layer") && !config.at("vision_feature_layer").is_null()) {
    const Json& layer = config.at("vision_feature_layer");
    GIMBAL_USER_CHECK(layer.is_number_integer() && layer.get<std::int64_t>() == -1, where,
                      ": key 'vision_feature_layer' is ", layer.dump(),
                      "; only the last layer, -1, is supported");
  }
  const auto strategy =
      json_get_or<std::string>(config, "vision_feature_select_strategy", "default", where);
  GIMBAL_USER_CHECK(strategy == "default", where, ": key 'vision_feature_select_strategy' is '",
                    strategy, "'; only 'default' (without the class token) is supported");
}

std::int64_t read_shuffle(const Json& config, const InternVlVisionConfig& vision,
                          const std::string& where) {
  const auto ratio = json_get_or<double>(config, "downsample_ratio", 0.5, where);
  GIMBAL_USER_CHECK(ratio > 0 && ratio <= 1, where, ": key 'downsample_ratio' is ", ratio,
                    "; it must be 1/n for a whole n");
  const double n = std::round(1.0 / ratio);
  GIMBAL_USER_CHECK(std::abs(n * ratio - 1.0) < 1e-9, where, ": key 'downsample_ratio' is ", ratio,
                    "; it must be 1/n for a whole n");
  const auto shuffle = static_cast<std::int64_t>(n);
  GIMBAL_USER_CHECK(vision.grid() % shuffle == 0, where, ": key 'downsample_ratio' ", ratio,
                    " joins ", shuffle, " patches along a side, but a tile has ", vision.grid());
  return shuffle;
}

const Json& read_part(const Json& config, const std::string& key, const std::string& where) {
  GIMBAL_USER_CHECK(config.contains(key) && config.at(key).is_object(), where, ": key '", key,
                    "' is missing or no object");
  return config.at(key);
}

}  // namespace

InternVlConfig parse_internvl_config(const Json& config, const std::string& where) {
  GIMBAL_USER_CHECK(
      !config.contains("quantization_config") || config.at("quantization_config").is_null(), where,
      ": key 'quantization_config': quantised weights cannot be trained; use the unquantised "
      "model");
  InternVlConfig c;
  c.vision = parse_vision(read_part(config, "vision_config", where), where + ": vision_config");
  c.text = parse_text_config(read_part(config, "text_config", where), where + ": text_config");
  c.text.tied = json_get_or<bool>(config, "tie_word_embeddings", true, where);
  c.image_token_id = json_get_or<std::int64_t>(config, "image_token_id", 151667, where);
  GIMBAL_USER_CHECK(c.image_token_id >= 0 && c.image_token_id < c.text.vocab_size, where,
                    ": key 'image_token_id' ", c.image_token_id,
                    " is outside of the vocabulary of ", c.text.vocab_size);
  check_features(config, where);
  c.shuffle = read_shuffle(config, c.vision, where);
  c.projector_activation = read_activation(config, "projector_hidden_act", "gelu", where);
  const auto tokens = json_get_or<std::int64_t>(config, "image_seq_length", 256, where);
  GIMBAL_USER_CHECK(tokens == c.tokens_per_tile(), where, ": key 'image_seq_length' is ", tokens,
                    " but image_size ", c.vision.image_size, ", patch_size ", c.vision.patch_size,
                    " and downsample_ratio give ", c.tokens_per_tile(), " tokens a tile");
  return c;
}

}  // namespace gimbal
