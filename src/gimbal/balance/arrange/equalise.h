// Exchanging samples between packs until the packs are alike.
#pragma once

#include <cstdint>
#include <vector>

#include "gimbal/balance/arrange/pack_loads.h"
#include "gimbal/balance/limits.h"
#include "gimbal/balance/packs.h"

namespace gimbal {

/// Makes the packs of the epoch more alike and returns their loads, as weigh_packs does. In each
/// round every light pack meets a heavy one, in the direction in which packs differ most, and the
/// two exchange one sample for one or two for two where that makes them more alike. Ends when a
/// round has changed little. Packs keep their number of samples, and no limit is exceeded. Linear.
std::vector<std::uint32_t> equalise_packs(Packs& packs, const PackLimits& limits,
                                          const LoadScale& scale);

}  // namespace gimbal
