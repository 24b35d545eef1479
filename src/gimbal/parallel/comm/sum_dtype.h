// The dtype in which numbers of several ranks are added up.
#pragma once

#include <c10/core/ScalarType.h>

namespace gimbal {

/// float32 for the narrower floating-point dtypes, else `dtype`.
inline at::ScalarType sum_dtype(at::ScalarType dtype) {
  return dtype == at::kBFloat16 || dtype == at::kHalf ? at::kFloat : dtype;
}

}  // namespace gimbal
