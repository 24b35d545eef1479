// Which blocks are not trained.
#pragma once

#include <string>
#include <vector>

#include "gimbal/arch/model_desc.h"

namespace gimbal::cli {

/// Per block: whether a pattern names it, or all its parameters ("projector.*"). Empty without
/// patterns. `option` is what the user wrote them as. Throws UserError for patterns that name no
/// whole block, and when nothing is left to train.
std::vector<bool> frozen_blocks(const ModelDesc& model, const std::vector<std::string>& patterns,
                                const std::string& option);

}  // namespace gimbal::cli
