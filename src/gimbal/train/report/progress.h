// What a person sees on stderr during a run: a summary before the first step, then a progress line.
#pragma once

#include <cstdint>
#include <string>

#include "gimbal/train/report/metrics.h"

namespace gimbal {

/// 1234567 -> "1,234,567".
std::string format_count(std::uint64_t value);
/// 75 -> "1:15", 3675 -> "1:01:15".
std::string format_duration(double seconds);
/// 1.5e9 -> "1.5 G", with three significant digits.
std::string format_quantity(double value);

/// Collects steps and prints: on a terminal one line that is rewritten, elsewhere a line every
/// `every_steps` steps.
class Progress {
 public:
  Progress(std::int64_t first_step, std::int64_t total_steps, std::int64_t every_steps);
  void add(const StepRecord& record);
  /// Ends a line that is being rewritten, so that other messages start on their own.
  void break_line();

 private:
  std::string line(const StepRecord& record) const;

  std::int64_t first_step_;
  std::int64_t total_steps_;
  std::int64_t every_steps_;
  bool terminal_;
  bool line_open_ = false;
  // Sums since the last printed line.
  std::int64_t steps_ = 0;
  double loss_ = 0, seconds_ = 0, tokens_ = 0, images_ = 0, flops_ = 0, waste_ = 0, data_wait_ = 0;
  double total_seconds_ = 0;
};

}  // namespace gimbal
