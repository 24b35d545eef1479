// Streams and sources by the names that the user wrote.
#pragma once

#include <string>
#include <vector>

namespace gimbal::cli {

/// "vision, tokens".
std::string joined(const std::vector<std::string>& names);

/// The place of `name`. Throws UserError that names the option, what there is and what may be
/// meant; `kind`: "stream", "source".
std::size_t index_of(const std::string& option, const std::string& name, const std::string& kind,
                     const std::vector<std::string>& names);

}  // namespace gimbal::cli
