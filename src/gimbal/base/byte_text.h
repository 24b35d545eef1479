// Amounts of memory and of data for people.
#pragma once

#include <string>

#include "gimbal/base/units.h"

namespace gimbal {

/// "78.1 GiB", "1.25 MiB", "512 B": powers of 1,024, as systems count their memory. With "/s"
/// behind it also the speed of a link.
std::string bytes_text(Bytes bytes);

}  // namespace gimbal
