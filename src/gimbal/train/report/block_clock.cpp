#include "gimbal/train/report/block_clock.h"

#include <c10/core/impl/VirtualGuardImpl.h>

#include <chrono>
#include <utility>

namespace gimbal {

double steady_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

BlockClock::BlockClock(const c10::Device& device, std::function<double()> clock)
    : device_(device), clock_(std::move(clock)) {}

void BlockClock::switch_to(double* figure) {
  if (!device_.is_cpu())
    c10::impl::VirtualGuardImpl(device_.type()).synchronizeDevice(device_.index());
  const double now = clock_();
  if (figure_ != nullptr) *figure_ += now - last_;
  figure_ = figure;
  last_ = now;
}

}  // namespace gimbal
