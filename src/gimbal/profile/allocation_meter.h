// Bytes of tensor storage that the process holds, now and at most.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>

namespace gimbal {

/// Counts the tensors' bytes on one device: all threads, those of autograd and of data loading too.
/// On the CPU the first meter puts a counting allocator before torch's, for good: bytes that were
/// allocated before it are not counted, neither are libraries' own buffers. To make before other
/// threads use tensors. On another device these are the statistics of torch's caching allocator.
/// Meters of one device read the same counters.
class AllocationMeter {
 public:
  /// Throws UserError for a device that torch keeps no statistics of.
  explicit AllocationMeter(const c10::Device& device);

  std::int64_t current_bytes() const;
  /// The most that current_bytes() has been since the last reset_peak() of any meter of the device.
  std::int64_t peak_bytes() const;
  void reset_peak();

 private:
  c10::Device device_;
};

}  // namespace gimbal
