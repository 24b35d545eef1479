// Predicted against measured at the end of a run.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "gimbal/base/json.h"
#include "gimbal/plan/plan.h"
#include "gimbal/train/run_measurements.h"

namespace gimbal {

/// One figure.
struct Compared {
  std::string name;
  double predicted = 0;
  double measured = 0;
  /// measured / predicted; nothing when nothing was predicted.
  std::optional<double> ratio() const;
};

struct PredictionReport {
  std::int64_t step = 0;
  std::string plan;                      // the file; empty: none is followed
  Compared activation_peak;              // bytes, of the rank that holds most
  std::optional<Compared> total_peak;    // bytes: all that training holds; with a plan
  std::optional<Compared> step_seconds;  // mean; with a plan
  std::uint64_t timed_micro_batches = 0;
  std::vector<Compared> forward, backward;  // seconds of a micro-batch, by cost class; with a plan
};

/// `ranks`: of every rank. `step_seconds`: mean of the run's steps. `plan`: the one that is
/// followed, from `plan_file`.
PredictionReport compare_prediction(std::int64_t step, const std::optional<Plan>& plan,
                                    const std::string& plan_file,
                                    const std::vector<MeasuredPeak>& ranks,
                                    const MeasuredTimes& times, double step_seconds);

Json to_json(const PredictionReport& report);
/// Lines for a person.
std::string to_text(const PredictionReport& report);

}  // namespace gimbal
