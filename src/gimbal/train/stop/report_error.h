// The last words of a process that fails.
#pragma once

#include <string>

namespace gimbal {

/// Prints the error that ends this process, with its rank unless that is 0. Where all ranks fail
/// in the same way, one of them prints it (is_first_to_report). SIGTERM that comes meanwhile, for
/// about three seconds at most, is ignored.
void report_error(const std::string& message);

}  // namespace gimbal
