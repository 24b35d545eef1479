// Figures of a plan for people: times, shares and aligned tables.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "gimbal/base/units.h"
#include "gimbal/plan/plan.h"

namespace gimbal {

/// "31.2 ms", "1.23 s", "2 h 05 min".
std::string seconds_text(Seconds seconds);
/// "12.3 %".
std::string percent_text(double share);
/// "40,941".
std::string count_text(std::uint64_t value);

/// Rows of cells as lines; the columns before `num_left` are aligned to the left, the others to the
/// right.
std::string aligned_rows(const std::vector<std::vector<std::string>>& rows, std::size_t num_left);

/// "vision.embed .. vision.10", or one name.
std::string block_range(const Plan& plan, std::size_t begin, std::size_t end);
/// "text 4,096, vision 16", or "none".
std::string caps_text(const Plan& plan);
/// "3 keep, 9 full": the levels of the blocks begin .. end - 1, most saved first.
std::string levels_text(const Plan& plan, std::size_t begin, std::size_t end);
/// "pp 4, tp 4; 1f1b, 8 micro-batches; text 4,096, vision 16".
std::string choice_text(const Plan& plan);
/// The name of the largest part of a bound: "work", "critical path", "memory" or "fill".
std::string bound_name(const StepBound& bound);
/// Step time over its bound, less 1.
double bound_gap(const Prediction& prediction);

}  // namespace gimbal
