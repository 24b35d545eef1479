// Lists of block names in short: "vision.0 .. vision.44".
#pragma once

#include <string>
#include <vector>

namespace gimbal {

/// The names with runs of two or more numbered ones as "FIRST .. LAST".
std::vector<std::string> block_runs(const std::vector<std::string>& names);

/// The names of the runs; block_names(block_runs(n)) == n. Throws UserError that names `where` for
/// an empty list, a run that is none, and a name that occurs twice.
std::vector<std::string> block_names(const std::vector<std::string>& runs,
                                     const std::string& where);

}  // namespace gimbal
