// How a process that waits for others of its machine is woken.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

namespace gimbal {

/// In shared memory, one for each process that waits; zeros are a bell that has never been rung.
class Doorbell {
 public:
  /// To be read before looking whether there is something to do.
  std::uint32_t rings() const { return rings_.load(std::memory_order_seq_cst); }
  /// Wakes the threads of all processes that wait here. A system call only when one does.
  void ring();
  /// Returns once it has been rung since rings() was `seen`, after `longest`, or for no reason.
  void wait(std::uint32_t seen, std::chrono::nanoseconds longest);

 private:
  alignas(64) std::atomic<std::uint32_t> rings_ = 0;
  std::atomic<std::uint32_t> sleepers_ = 0;
};

static_assert(std::atomic<std::uint32_t>::is_always_lock_free, "shared between processes");

}  // namespace gimbal
