// Messages for people, on stderr. Results go to stdout by other ways.
#pragma once

#include <string>

namespace gimbal {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

/// Sets the lowest level that is printed and a prefix such as "[rank 1]" (empty: none) for this
/// process.
void init_log(LogLevel level, const std::string& prefix);

void log_debug(const std::string& message);
void log_info(const std::string& message);
void log_warning(const std::string& message);
void log_error(const std::string& message);

}  // namespace gimbal
