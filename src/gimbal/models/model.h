// A model: its blocks in order and what the trainer has to know of it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gimbal/arch/model_desc.h"
#include "gimbal/base/json.h"
#include "gimbal/models/block.h"
#include "gimbal/models/layout.h"
#include "gimbal/nn/ports.h"

namespace gimbal {

/// Sizes that the key-value cache needs.
struct CacheShape {
  std::int64_t num_layers = 0;
  std::int64_t num_kv_heads = 0;  // of this rank
  std::int64_t head_dim = 0;
};

struct Model {
  std::string type;  // "internvl", "qwen2", "qwen3", "llama"
  Json config;       // the folder's config.json, as read
  std::vector<std::unique_ptr<Block>> blocks;
  ModelDesc desc;      // same order as blocks
  LayoutTable layout;  // as applied
  CacheShape cache;
  std::int64_t vocab_size = 0;
  std::int64_t max_positions = 0;
  std::int64_t image_token_id = -1;   // -1: text only
  std::int64_t image_seq_length = 0;  // visual tokens per tile
  /// Our parameter name -> name in a Hugging Face folder as transformers 5 saves it.
  std::map<std::string, std::string> hf_names;
  /// Other names under which published checkpoints hold the same tensor (older layouts).
  std::map<std::string, std::vector<std::string>> hf_aliases;

  std::vector<ParameterPtr> parameters() const;
  /// Values of the whole model, on all ranks.
  std::int64_t num_parameters() const;
};

/// Builds the model that `config` (a config.json) describes, with each parameter cut as its layout
/// table says over the ranks of `ports`. No storage is made. Throws UserError for an unknown
/// model_type (lists the known ones), an unsupported or missing setting, naming the key and
/// `where`, and for heads that cannot be cut over so many ranks.
Model make_model(const Json& config, const std::string& where, const Ports& ports = local_ports());

/// Sets trainable = false for every parameter whose name, or whose block's name, matches a pattern.
/// Throws UserError for a pattern that matches nothing.
void freeze_parameters(Model& model, const std::vector<std::string>& patterns);

}  // namespace gimbal
