// Time of collectives from latency and bandwidth (ring algorithms; Thakur et al. 2005).
#pragma once

#include "gimbal/base/units.h"
#include "gimbal/cost/profile_table.h"

namespace gimbal {

/// The link that `ranks` neighbouring devices share, when consecutive ones of the group are
/// `stride` devices apart on machines of devices_per_node devices: the slowest on the way.
const LinkCost& group_link(const LinkTable& links, int ranks, int stride);

/// `bytes`: of the whole gathered (reduced, exchanged) tensor. One rank: 0.
Seconds all_gather_seconds(const LinkCost& link, int ranks, Bytes bytes);
Seconds reduce_scatter_seconds(const LinkCost& link, int ranks, Bytes bytes);
Seconds all_reduce_seconds(const LinkCost& link, int ranks, Bytes bytes);
/// `bytes`: what one rank holds before.
Seconds all_to_all_seconds(const LinkCost& link, int ranks, Bytes bytes);

}  // namespace gimbal
