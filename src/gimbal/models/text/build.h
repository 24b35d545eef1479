// Composition of text backbones and of plain text models.
#pragma once

#include "gimbal/models/model.h"
#include "gimbal/models/text/config.h"

namespace gimbal {

/// Appends the text blocks and fills vocabulary, positions and cache sizes. `tokens_per_tile`: of
/// the pictures, 0 for text models. Throws UserError for heads that cannot be cut over the ranks.
void add_text_blocks(Model& model, const TextConfig& config, std::int64_t tokens_per_tile,
                     const Ports& ports);

/// Qwen2ForCausalLM, Qwen3ForCausalLM, LlamaForCausalLM.
Model make_text_model(const Json& config, const std::string& where, const Ports& ports);

}  // namespace gimbal
