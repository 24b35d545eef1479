// Messages in one direction between two processes, first in, first out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>

#include "gimbal/parallel/shm/byte_ring.h"

namespace gimbal {

class LocalCall;

/// A message under way. On both sides its number of bytes is known; the sender's goes ahead of the
/// bytes, so that a difference is noticed.
struct LocalTransfer {
  LocalCall* call = nullptr;
  std::byte* data = nullptr;
  std::size_t num_bytes = 0;
  std::size_t num_done = 0;
  bool has_begun = false;  // the number of bytes is through
};

/// This process's end of a ring. Not thread-safe.
class MessageLane {
 public:
  enum class Direction { kOut, kIn };

  MessageLane(ByteRing ring, Direction direction) : ring_(ring), direction_(direction) {}

  void add(const LocalTransfer& transfer) { transfers_.push_back(transfer); }
  bool empty() const { return transfers_.empty(); }
  /// The first one, which has to be finished before others.
  LocalTransfer& front() { return transfers_.front(); }

  struct Progress {
    bool has_moved = false;  // some bytes
    bool finished = false;   // front(): to be popped
  };
  /// Moves what can be moved of the first message; nothing once the lane is broken. Throws
  /// std::runtime_error when the other side has sent a message of another length.
  Progress advance();
  void pop() { transfers_.pop_front(); }

  /// Forgets the messages of a call, and returns their number.
  std::size_t drop(const LocalCall& call);
  /// What follows would not be understood: nothing moves any more.
  void break_off() { is_broken_ = true; }
  bool is_broken() const { return is_broken_; }
  /// In their order.
  const std::deque<LocalTransfer>& transfers() const { return transfers_; }
  bool writer_waits() const { return ring_.writer_waits(); }

 private:
  ByteRing ring_;
  Direction direction_;
  std::deque<LocalTransfer> transfers_;
  bool is_broken_ = false;
};

}  // namespace gimbal
