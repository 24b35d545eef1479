// Vision towers that work on square tiles of one size, as data: InternViT and CLIP. One row of work
// is a tile: attention is full inside it.
#pragma once

#include <cstdint>

#include "gimbal/arch/config_reader.h"
#include "gimbal/arch/model_desc.h"

namespace gimbal {

struct TileTowerArch {
  std::int64_t width = 0;      // D
  std::int64_t ffn_width = 0;  // F
  std::int64_t num_layers = 0;
  std::int64_t num_used_layers = 0;  // those behind run, but nothing uses their result
  std::int64_t num_heads = 0;
  std::int64_t num_channels = 3;
  std::int64_t patch_size = 0;
  std::int64_t num_patches = 0;         // of a tile
  std::int64_t num_learned_places = 0;  // rows of the position embedding; 0: none
  bool patch_bias = false;
  bool embed_norm = false;  // layer norm behind the embedding (CLIP)
  bool rms_norm = false;    // in the layers; otherwise layer norm
  bool qkv_bias = false;
  bool qk_norm = false;  // over the whole width
  bool layer_scale = false;
  bool quick_gelu = false;           // keeps the sigmoid besides
  std::int64_t end_norm_values = 0;  // of a norm behind the last layer whose result is not used

  std::int64_t num_rows() const { return num_patches + 1; }  // S, with the class token
};

/// Width, layers, heads and patches of a vision_config; `image_size` is the side of a tile.
TileTowerArch read_tile_tower(const ConfigReader& config, const TileTowerArch& defaults,
                              std::int64_t default_image_size);

/// Patches along a side of a tile. Throws UserError when a tile is smaller than a patch.
std::int64_t patches_per_side(const ConfigReader& config, std::int64_t image_size,
                              std::int64_t patch_size);

/// Number of layers whose results are used, from a feature layer counted like transformers' hidden
/// states: 0 is the embedding, -1 the last layer.
std::int64_t used_layers(const ConfigReader& config, const std::string& key, std::int64_t fallback,
                         std::int64_t num_layers);

/// Appends vision.embed and vision.0 .. and fills the vision fields of `desc`.
void add_tile_tower(const TileTowerArch& tower, ModelDesc& desc);

}  // namespace gimbal
