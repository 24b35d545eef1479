// A profile as a table for people.
#pragma once

#include <string>

#include "gimbal/cost/profile_table.h"

namespace gimbal {

/// One line per class of blocks (times of 1,000 rows and of 1,000,000 pairs, bytes kept per row,
/// error of the fit), then optimizer, links and notes. Ends with a line break.
std::string to_text(const ProfileTable& table);

}  // namespace gimbal
