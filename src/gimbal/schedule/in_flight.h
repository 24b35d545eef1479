// Micro-batches whose activations are held (from forward to backward, or to the weight gradients
// when backward is split). The schedules must be sound (check_schedule).
#pragma once

#include <vector>

#include "gimbal/schedule/schedule.h"

namespace gimbal {

/// Per stage: the most at a time.
std::vector<int> most_in_flight(const Schedule& schedule);

/// What each of a rank's stages holds (in order: the stages rank, rank + num_ranks, ..), at the
/// moments that no other moment exceeds in all of them. With one stage that is its most_in_flight.
std::vector<std::vector<int>> fullest_moments(const Schedule& schedule, int rank);

}  // namespace gimbal
