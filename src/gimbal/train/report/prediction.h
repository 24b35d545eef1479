// Predicted against measured at the end of a run.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "gimbal/base/json.h"
#include "gimbal/plan/plan.h"
#include "gimbal/train/report/run_measurements.h"

namespace gimbal {

/// One figure.
struct Compared {
  std::string name;
  double predicted = 0;
  double measured = 0;
  /// measured / predicted; nothing when nothing was predicted.
  std::optional<double> ratio() const;
};

/// A rank's bytes and its place in the pipeline.
struct RankPeak {
  int pp = 0;
  MeasuredPeak peak;
  /// Of its shards' tensors.
  double parameter_bytes = 0, gradient_bytes = 0, optimizer_bytes = 0;
  double held_bytes = 0;  // RunMeasurements::held_bytes
};

struct PredictionReport {
  std::int64_t step = 0;
  std::vector<RankPeak> ranks;
  std::string plan;          // the file; empty: none is followed
  Compared activation_peak;  // bytes, of the rank that holds most
  std::vector<Compared>
      total_peaks;  // bytes, per pipeline rank: all that training holds; with a plan
  std::optional<Compared> step_seconds;  // mean; with a plan
  std::uint64_t timed_micro_batches = 0;
  std::vector<Compared> forward, backward;  // seconds of a micro-batch, by cost class; with a plan
};

/// `ranks`: of every rank. `times`: summed over them. `step_seconds`: mean of the run's steps.
/// `plan`: the one that is followed, from `plan_file`.
PredictionReport compare_prediction(std::int64_t step, const std::optional<Plan>& plan,
                                    const std::string& plan_file,
                                    const std::vector<RankPeak>& ranks, const MeasuredTimes& times,
                                    double step_seconds);

Json to_json(const PredictionReport& report);
/// Lines for a person.
std::string to_text(const PredictionReport& report);

}  // namespace gimbal
