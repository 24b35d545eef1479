// Whose time it is: adds up seconds for one figure after the other.
#pragma once

#include <c10/core/Device.h>

#include <functional>

namespace gimbal {

/// Seconds since a fixed moment, by a clock that never goes back.
double steady_seconds();

class BlockClock {
 public:
  /// `clock`: seconds, as steady_seconds. On a GPU every switch waits for the device.
  BlockClock(const c10::Device& device, std::function<double()> clock);

  /// Adds the time since the last call to the figure named there. Null: time that nobody counts.
  void switch_to(double* figure);

 private:
  c10::Device device_;
  std::function<double()> clock_;
  double* figure_ = nullptr;
  double last_ = 0;
};

}  // namespace gimbal
