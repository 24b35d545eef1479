// The vision tower and projector of InternVL as data.
#pragma once

#include "gimbal/arch/model_desc.h"
#include "gimbal/models/internvl/config.h"

namespace gimbal {

/// Appends vision.embed, vision.0 .., projector; work per tile. Norms, activations and layer scale
/// count nothing.
void describe_vision(const InternVlConfig& config, ModelDesc& desc);

}  // namespace gimbal
