// Placement of the text backbones' parameters over the tensor-parallel ranks.
#pragma once

#include "gimbal/models/layout.h"
#include "gimbal/models/text/config.h"

namespace gimbal {

/// `tensor_parts`: how many ranks there are. Key and value heads are cut when each rank gets whole
/// ones; otherwise every rank has the whole projection and uses the heads that its query heads
/// need.
LayoutTable text_layout(const TextConfig& config, int tensor_parts);

}  // namespace gimbal
