// What the order of samples depends on: kept in checkpoints, and held against the recipe of a run
// that goes on.
#pragma once

#include <cstdint>
#include <string>

#include "gimbal/config/recipe.h"

namespace gimbal {

/// Equal for equal orders of samples of one dataset. `patterns`: fingerprint of the run's packing
/// patterns.
std::string order_fingerprint(const Recipe& recipe, std::uint64_t patterns);

/// In what two fingerprints differ, a line for each recipe key: "\n  balance.text_cap is 500; the
/// run began with 192".
std::string order_changes(const std::string& saved, const std::string& current);

}  // namespace gimbal
