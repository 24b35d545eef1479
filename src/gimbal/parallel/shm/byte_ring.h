// Bytes from one process to another through shared memory.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace gimbal {

/// What is shared: how much has been written and read since the start. Zeros are an empty ring.
struct ByteRingState {
  alignas(64) std::atomic<std::uint64_t> written = 0;
  alignas(64) std::atomic<std::uint64_t> read = 0;
  alignas(64) std::atomic<std::uint32_t> wants_room = 0;  // the writer could not write all
};

static_assert(std::atomic<std::uint64_t>::is_always_lock_free, "shared between processes");

/// One process writes, one reads; neither waits. A view of memory that others own.
class ByteRing {
 public:
  /// `capacity`: bytes at `data`, a power of two.
  ByteRing(ByteRingState& state, std::byte* data, std::size_t capacity);

  std::size_t num_readable() const;
  /// For the writer. When there is not, the reader is asked to tell of the next room.
  bool has_room(std::size_t num_bytes);
  /// As many of the bytes as there is room for, or that are there; returns their number.
  std::size_t write(const std::byte* bytes, std::size_t num_bytes);
  std::size_t read(std::byte* bytes, std::size_t num_bytes);
  /// For the reader: whether the writer waits for room, which it has to be told of.
  bool writer_waits() const { return state_->wants_room.load(std::memory_order_seq_cst) != 0; }

 private:
  std::size_t num_writable() const;
  void ask_for_room();
  std::size_t write_some(const std::byte* bytes, std::size_t num_bytes);

  ByteRingState* state_;
  std::byte* data_;
  std::size_t capacity_;
};

}  // namespace gimbal
