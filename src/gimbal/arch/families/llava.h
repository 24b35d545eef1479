// LLaVA as data: CLIP's vision tower, two linear layers, a text model.
#pragma once

#include "gimbal/arch/config_reader.h"
#include "gimbal/arch/model_desc.h"

namespace gimbal {

/// LlavaForConditionalGeneration of transformers, with the layers behind the feature layer and the
/// tower's last norm, which run although nothing uses their result.
void describe_llava(const ConfigReader& config, ModelDesc& desc);

}  // namespace gimbal
