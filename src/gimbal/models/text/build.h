// Composition of text backbones and of plain text models.
#pragma once

#include "gimbal/models/model.h"
#include "gimbal/models/text/config.h"

namespace gimbal {

/// Appends the text blocks and fills vocabulary, positions and cache sizes.
void add_text_blocks(Model& model, const TextConfig& config);

/// Qwen2ForCausalLM, Qwen3ForCausalLM, LlamaForCausalLM.
Model make_text_model(const Json& config, const std::string& where);

}  // namespace gimbal
