#include "gimbal/parallel/shm/byte_ring.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "gimbal/base/error.h"

namespace gimbal {
namespace {

/// The other side sees bytes as soon as so many are through: both copy at the same time.
constexpr std::size_t kRingPiece = std::size_t{64} << 10;

}  // namespace

ByteRing::ByteRing(ByteRingState& state, std::byte* data, std::size_t capacity)
    : state_(&state), data_(data), capacity_(capacity) {
  GIMBAL_CHECK(std::has_single_bit(capacity), "capacity ", capacity);
}

std::size_t ByteRing::num_readable() const {
  return static_cast<std::size_t>(state_->written.load(std::memory_order_acquire) -
                                  state_->read.load(std::memory_order_relaxed));
}

std::size_t ByteRing::num_writable() const {
  return capacity_ - static_cast<std::size_t>(state_->written.load(std::memory_order_relaxed) -
                                              state_->read.load(std::memory_order_seq_cst));
}

bool ByteRing::has_room(std::size_t num_bytes) {
  if (num_writable() < num_bytes) ask_for_room();
  return num_writable() >= num_bytes;
}

void ByteRing::ask_for_room() {
  // The reader reads, then looks whether room is wanted; the writer says so, then looks again: one
  // of the two sees the other.
  state_->wants_room.store(1, std::memory_order_seq_cst);
}

std::size_t ByteRing::write(const std::byte* bytes, std::size_t num_bytes) {
  std::size_t count = write_some(bytes, num_bytes);
  if (count < num_bytes) {
    ask_for_room();
    count += write_some(bytes + count, num_bytes - count);
  }
  if (count == num_bytes) state_->wants_room.store(0, std::memory_order_relaxed);
  return count;
}

std::size_t ByteRing::write_some(const std::byte* bytes, std::size_t num_bytes) {
  std::uint64_t written = state_->written.load(std::memory_order_relaxed);
  const std::size_t count = std::min(num_bytes, num_writable());
  for (std::size_t done = 0; done < count;) {
    const std::size_t begin = static_cast<std::size_t>(written) & (capacity_ - 1);
    const std::size_t piece = std::min({count - done, capacity_ - begin, kRingPiece});
    std::memcpy(data_ + begin, bytes + done, piece);
    done += piece;
    written += piece;
    state_->written.store(written, std::memory_order_release);
  }
  return count;
}

std::size_t ByteRing::read(std::byte* bytes, std::size_t num_bytes) {
  std::uint64_t read = state_->read.load(std::memory_order_relaxed);
  const std::size_t count = std::min(num_bytes, num_readable());
  for (std::size_t done = 0; done < count;) {
    const std::size_t begin = static_cast<std::size_t>(read) & (capacity_ - 1);
    const std::size_t piece = std::min({count - done, capacity_ - begin, kRingPiece});
    std::memcpy(bytes + done, data_ + begin, piece);
    done += piece;
    read += piece;
    state_->read.store(read, std::memory_order_seq_cst);  // before writer_waits()
  }
  return count;
}

}  // namespace gimbal
