// The recipe's number types as torch's.
#pragma once

#include <c10/core/ScalarType.h>

#include "gimbal/base/error.h"
#include "gimbal/config/recipe.h"

namespace gimbal {

inline at::ScalarType scalar_type(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return at::kFloat;
    case DType::kBFloat16:
      return at::kBFloat16;
    case DType::kFloat64:
      return at::kDouble;
  }
  throw_internal(__FILE__, __LINE__, "dtype", "unknown dtype");
}

}  // namespace gimbal
