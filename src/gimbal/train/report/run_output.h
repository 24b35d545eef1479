// What rank 0 of a run writes and prints.
#pragma once

#include "gimbal/train/report/metrics.h"
#include "gimbal/train/report/progress.h"

namespace gimbal {

struct RunOutput {
  MetricsWriter metrics;
  MetricsWriter samples;
  Progress progress;
};

}  // namespace gimbal
