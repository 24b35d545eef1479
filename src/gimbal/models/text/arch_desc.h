// The blocks of a text backbone as data.
#pragma once

#include "gimbal/arch/model_desc.h"
#include "gimbal/models/text/config.h"

namespace gimbal {

/// Appends text.embed, text.0 .., text.norm, text.head. FLOPs are those of the matrix products and
/// of attention; norms, activations and lookups count nothing.
void describe_text(const TextConfig& config, ModelDesc& desc);

}  // namespace gimbal
