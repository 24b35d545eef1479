// How much memory the process has used above what it used at a point in time.
#pragma once

#include <cstdint>

namespace gimbal::cli {

class MemoryPeak {
 public:
  /// The point in time.
  MemoryPeak();
  /// The highest resident size since then, less that of then. Where the system cannot forget
  /// earlier peaks, a peak counts only as far as it is above those.
  std::uint64_t bytes() const;

 private:
  std::uint64_t before_;
};

}  // namespace gimbal::cli
