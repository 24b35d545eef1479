// Placement of InternVL's parameters over the tensor-parallel ranks.
#pragma once

#include "gimbal/models/internvl/config.h"
#include "gimbal/models/layout.h"

namespace gimbal {

/// Vision tower, projector and text. The projector is whole on every rank: its tiles are cut over
/// the ranks instead.
LayoutTable internvl_layout(const InternVlConfig& config, int tensor_parts);

}  // namespace gimbal
