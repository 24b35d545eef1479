// The one place that knows how torch versions differ. Supported: 2.11 to 2.13.
#pragma once

#include <torch/version.h>

/// Whether the torch that is compiled against has at least this version; for the preprocessor.
#define GIMBAL_TORCH_AT_LEAST(major, minor) \
  (TORCH_VERSION_MAJOR > (major) ||         \
   (TORCH_VERSION_MAJOR == (major) && TORCH_VERSION_MINOR >= (minor)))

#if !GIMBAL_TORCH_AT_LEAST(2, 11)
#error "Gimbal needs torch 2.11 or newer. Run scripts/setup."
#endif
