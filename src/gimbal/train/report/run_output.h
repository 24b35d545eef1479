// What rank 0 of a run writes and prints.
#pragma once

#include <array>

#include "gimbal/train/report/metrics.h"
#include "gimbal/train/report/progress.h"

namespace gimbal {

/// The logs in the folder of a run: its numbers, and which samples each step had.
inline constexpr const char* kMetricsLog = "metrics.jsonl";
inline constexpr const char* kSamplesLog = "samples.jsonl";
inline constexpr std::array kRunLogs{kSamplesLog, kMetricsLog};

struct RunOutput {
  MetricsWriter metrics;
  MetricsWriter samples;
  Progress progress;
};

}  // namespace gimbal
