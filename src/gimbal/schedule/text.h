// Schedules as text: one line per rank, actions like 2F0 (stage 2, forward, micro-batch 0), B
// (backward), I (input gradients), W (weight gradients).
#pragma once

#include <string>

#include "gimbal/schedule/schedule.h"

namespace gimbal {

std::string to_string(const Action& action);
/// First line "NAME ranks=R stages=S micro_batches=M"; then one line per rank.
std::string format_schedule(const Schedule& schedule);
/// parse(format(s)) == s. Throws UserError with line and word.
Schedule parse_schedule(const std::string& text, const std::string& where);

}  // namespace gimbal
