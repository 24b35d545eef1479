// What the rows of each stream cost.
#pragma once

#include <vector>

#include "apps/cli/balance/arguments.h"
#include "gimbal/balance/sizes.h"

namespace gimbal::cli {

/// Per stream, from --cost, --costs or --model, or else such that each stream that fills its cap
/// costs the same. Throws UserError when the given ones do not fit the streams.
std::vector<StreamCost> resolve_costs(const BalanceArguments& arguments, const PackCaps& caps,
                                      const SampleSizes& sizes);

}  // namespace gimbal::cli
