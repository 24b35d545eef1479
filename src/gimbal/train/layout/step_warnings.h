// Whether a step has enough packs to keep the mesh busy.
#pragma once

#include <string>
#include <vector>

#include "gimbal/config/recipe.h"
#include "gimbal/train/layout/run_layout.h"

namespace gimbal {

/// A sentence when data ranks have no pack, and one when a pipeline has fewer micro-batches than
/// ranks or idles for more than 40 % of a step; each names the number of packs to use. `planned`:
/// the run follows a plan, which has chosen them. More packs are another training: nothing is
/// changed by itself.
std::vector<std::string> step_warnings(const BalanceConfig& balance, const RunLayout& layout,
                                       bool planned);

}  // namespace gimbal
