// What a run measures, metrics.jsonl and the numbers of the progress line, and what it trains on,
// samples.jsonl.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "gimbal/base/json.h"
#include "gimbal/train/data/step_plan.h"

namespace gimbal {

/// Seconds that a rank spent in a step, by what it did.
struct StepTimes {
  double data_wait = 0;
  double forward = 0;
  double backward = 0;
  double reduce_wait = 0;
  double optimizer = 0;
};

/// One finished step, as rank 0 sees it.
struct StepRecord {
  std::int64_t step = 0;  // from 1
  Position position;
  double loss = 0;
  double lr = 0;
  double grad_norm = 0;
  double seconds = 0;
  double elapsed_seconds = 0;
  double flops = 0;                     // model FLOPs of all ranks
  double peak_flops = 0;                // GEMM peak of all ranks, FLOP/s
  std::vector<StepTimes> times;         // per rank
  std::vector<RankLoad> loads;          // per data rank
  std::vector<std::size_t> data_ranks;  // per rank: whose packs it works on; empty: its own
  double waste = 0;

  std::uint64_t samples() const;
  std::uint64_t tokens() const;
  std::uint64_t loss_tokens() const;
  std::uint64_t media() const;
  std::uint64_t vision_rows() const;
};

Json to_json(const StepRecord& record);

/// The line of samples.jsonl: which samples of the dataset each data rank has in each of its
/// micro-batches. `step`: from 1.
Json samples_line(std::int64_t step, const StepPlan& plan);

/// Appends JSON lines to a file of the run; each is on its way to the disk when write() returns.
class MetricsWriter {
 public:
  /// Keeps the lines of an earlier part of the run up to `resume_step` and drops those of steps
  /// that will be run again.
  MetricsWriter(std::filesystem::path path, std::int64_t resume_step);
  void write(const Json& line);
  /// A warning when the file that was there does not reach `resume_step`, else empty.
  const std::string& gap() const { return gap_; }

 private:
  std::filesystem::path path_;
  std::ofstream out_;
  std::string gap_;
};

}  // namespace gimbal
