#include "gimbal/models/text/build.h"

#include "gimbal/models/text/blocks.h"
#include "gimbal/models/text/hf_names.h"

namespace gimbal {

void add_text_blocks(Model& model, const TextConfig& config) {
  auto embed = std::make_unique<TextEmbed>(config);
  const ParameterPtr tied_weight = config.tied ? embed->weight() : nullptr;
  model.blocks.push_back(std::move(embed));
  const auto rotary = std::make_shared<const RotaryTable>(config.rotary);
  for (std::int64_t layer = 0; layer < config.num_layers; ++layer)
    model.blocks.push_back(std::make_unique<TextLayer>(config, layer, rotary));
  model.blocks.push_back(std::make_unique<TextNorm>(config));
  model.blocks.push_back(std::make_unique<TextHead>(config, tied_weight));
  model.cache = {config.num_layers, config.num_kv_heads, config.head_dim};
  model.vocab_size = config.vocab_size;
  model.max_positions = config.max_positions;
}

Model make_text_model(const Json& config, const std::string& where) {
  Model model;
  const TextConfig text = parse_text_config(config, where);
  model.type = text.family;
  model.config = config;
  add_text_blocks(model, text);
  add_text_names(model, {"model.", "", "language_model.model.", "model.language_model."},
                 {"lm_head.weight", "language_model.lm_head.weight"});
  return model;
}

}  // namespace gimbal
