#include "gimbal/base/error.h"

namespace gimbal {

void throw_internal(const char* file, int line, const char* condition, const std::string& message) {
  throw InternalError(
      concat("internal error at ", file, ":", line, ": ", condition, " does not hold. ", message));
}

}  // namespace gimbal
