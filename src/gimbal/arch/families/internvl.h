// InternVL as data: transformers' layout (model_type internvl) and OpenGVLab's original one
// (internvl_chat).
#pragma once

#include "gimbal/arch/config_reader.h"
#include "gimbal/arch/model_desc.h"

namespace gimbal {

/// InternVLForConditionalGeneration of transformers. `tie_word_embeddings` is the outer one, true
/// by default: transformers ignores the text part's.
void describe_internvl(const ConfigReader& config, ModelDesc& desc);

/// InternVLChatModel: vision_config, llm_config, the projector "mlp1". Throws UserError for LoRA.
void describe_internvl_chat(const ConfigReader& config, ModelDesc& desc);

}  // namespace gimbal
