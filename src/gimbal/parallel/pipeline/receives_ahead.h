// How early the receives of a pipeline schedule have to be posted.
#pragma once

#include <cstddef>

#include "gimbal/schedule/schedule.h"

namespace gimbal {

/// The least number of actions, at least 1, such that the schedule comes to an end when each rank
/// posts its receives so many actions ahead, sends wait for their receives, and two sends to a rank
/// may be under way. 1 but for interleaved schedules of many ranks whose rounds are longer than the
/// ranks are many. Throws InternalError for a schedule that ends in no way.
std::size_t receives_ahead(const Schedule& schedule, bool forward_only);

}  // namespace gimbal
