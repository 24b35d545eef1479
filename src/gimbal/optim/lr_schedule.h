// Learning rate over the steps: linear warm-up, then constant, linear or cosine decay.
#pragma once

#include <cstdint>

#include "gimbal/config/recipe.h"

namespace gimbal {

/// Factor of the peak rate at `step` (from 0) of `total_steps`. During warm-up (step + 1) /
/// warmup_steps: `transformers` starts at 0 and so loses the first step. From step = warmup_steps
/// on it equals transformers' constant, linear and cosine schedules; a decay goes from 1 to
/// min_lr_ratio at total_steps (transformers' cosine_with_min_lr) and stays there.
double lr_factor(const OptimizerConfig& config, std::int64_t step, std::int64_t total_steps);

}  // namespace gimbal
