// Composition of InternVL models.
#pragma once

#include "gimbal/models/model.h"

namespace gimbal {

/// InternVLForConditionalGeneration.
Model make_internvl_model(const Json& config, const std::string& where, const Ports& ports);

}  // namespace gimbal
