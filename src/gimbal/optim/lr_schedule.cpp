#include "gimbal/optim/lr_schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "gimbal/base/error.h"

namespace gimbal {
namespace {

/// From 1 at progress 0 to 0 at progress 1.
double decay(ScheduleKind kind, double progress) {
  switch (kind) {
    case ScheduleKind::kConstant:
      return 1.0;
    case ScheduleKind::kLinear:
      return 1.0 - progress;
    case ScheduleKind::kCosine:
      return 0.5 * (1.0 + std::cos(std::numbers::pi * progress));
  }
  GIMBAL_CHECK(false, "unknown schedule");
}

}  // namespace

double lr_factor(const OptimizerConfig& config, std::int64_t step, std::int64_t total_steps) {
  if (step < config.warmup_steps) {
    return static_cast<double>(step + 1) / static_cast<double>(config.warmup_steps);
  }
  const auto num_decay_steps =
      static_cast<double>(std::max<std::int64_t>(1, total_steps - config.warmup_steps));
  const double progress =
      std::min(1.0, static_cast<double>(step - config.warmup_steps) / num_decay_steps);
  return config.min_lr_ratio + (1.0 - config.min_lr_ratio) * decay(config.schedule, progress);
}

}  // namespace gimbal
