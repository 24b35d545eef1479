// Whether a schedule can run, and what it holds in flight.
#pragma once

#include <string>
#include <vector>

#include "gimbal/schedule/schedule.h"

namespace gimbal {

struct ScheduleCheck {
  std::vector<std::string> problems;  // empty: it runs each (stage, micro-batch) once and ends
  /// Per stage: most micro-batches whose activations are held at a time (from forward to backward,
  /// or to the weight gradients when backward is split). Empty when there are problems.
  std::vector<int> in_flight;
};

/// Every (stage, micro-batch) has one F and either one B or one I and one W after it, on the
/// stage's rank; and running each rank's list in order, with F waiting for the stage before and B
/// or I for the stage after, comes to an end (no deadlock).
ScheduleCheck check_schedule(const Schedule& schedule);

/// Micro-batches whose activations each of a rank's stages holds (in order: the stages rank, rank +
/// num_ranks, ..), at the moments that no other moment exceeds in all of them. With one stage that
/// is its in_flight. The schedule must be valid.
std::vector<std::vector<int>> fullest_moments(const Schedule& schedule, int rank);

}  // namespace gimbal
