// Whether a schedule can run.
#pragma once

#include <string>
#include <vector>

#include "gimbal/schedule/schedule.h"

namespace gimbal {

struct ScheduleCheck {
  std::vector<std::string> problems;  // empty: it runs each (stage, micro-batch) once and ends
  std::vector<int> in_flight;         // most_in_flight; empty when there are problems
};

/// Every (stage, micro-batch) has one F and either one B or one I and one W after it, on the
/// stage's rank; and running each rank's list in order, with F waiting for the stage before and B
/// or I for the stage after, comes to an end (no deadlock).
ScheduleCheck check_schedule(const Schedule& schedule);

}  // namespace gimbal
