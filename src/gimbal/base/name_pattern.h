// Patterns over the names of blocks and parameters.
#pragma once

#include <string>

namespace gimbal {

/// Whether `name` matches `pattern`, in which '*' stands for any characters.
bool matches_pattern(const std::string& pattern, const std::string& name);

}  // namespace gimbal
