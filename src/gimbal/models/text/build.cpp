#include "gimbal/models/text/build.h"

#include "gimbal/models/mesh_fit.h"
#include "gimbal/models/text/blocks.h"
#include "gimbal/models/text/hf_names.h"
#include "gimbal/models/text/layout.h"

namespace gimbal {

void add_text_blocks(Model& model, const TextConfig& config, std::int64_t tokens_per_tile,
                     const Ports& ports) {
  check_text_heads(config.num_heads, config.num_kv_heads, ports);
  auto embed = std::make_unique<TextEmbed>(config, tokens_per_tile, ports);
  const ParameterPtr tied_weight = config.tied ? embed->weight() : nullptr;
  model.blocks.push_back(std::move(embed));
  const auto rotary = std::make_shared<const RotaryTable>(config.rotary);
  for (std::int64_t layer = 0; layer < config.num_layers; ++layer)
    model.blocks.push_back(std::make_unique<TextLayer>(config, layer, rotary, ports));
  model.blocks.push_back(std::make_unique<TextNorm>(config));
  model.blocks.push_back(std::make_unique<TextHead>(config, tied_weight, ports));
  model.cache = {config.num_layers, attended_kv_heads(config, ports), config.head_dim};
  model.vocab_size = config.vocab_size;
  model.max_positions = config.max_positions;
}

Model make_text_model(const Json& config, const std::string& where, const Ports& ports) {
  Model model;
  const TextConfig text = parse_text_config(config, where);
  model.type = text.family;
  model.config = config;
  add_text_blocks(model, text, 0, ports);
  model.layout = text_layout(text, tensor_parts(ports));
  add_text_names(model, {"model.", "", "language_model.model.", "model.language_model."},
                 {"lm_head.weight", "language_model.lm_head.weight"});
  return model;
}

}  // namespace gimbal
