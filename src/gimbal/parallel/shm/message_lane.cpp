#include "gimbal/parallel/shm/message_lane.h"

#include <stdexcept>

#include "gimbal/base/error.h"

namespace gimbal {

MessageLane::Progress MessageLane::advance() {
  LocalTransfer& transfer = front();
  Progress progress;
  if (is_broken_) return progress;
  std::uint64_t length = transfer.num_bytes;
  auto* const length_bytes = reinterpret_cast<std::byte*>(&length);
  const bool goes_out = direction_ == Direction::kOut;
  if (!transfer.has_begun) {
    // All of the length or nothing.
    if (goes_out ? !ring_.has_room(sizeof(length)) : ring_.num_readable() < sizeof(length))
      return progress;
    if (goes_out) {
      ring_.write(length_bytes, sizeof(length));
    } else {
      ring_.read(length_bytes, sizeof(length));
      if (length != transfer.num_bytes) {
        throw std::runtime_error(
            concat("the sender's message has ", length, " bytes, ", transfer.num_bytes,
                   " are expected: the ranks do not agree on what they communicate"));
      }
    }
    transfer.has_begun = true;
    progress.has_moved = true;
  }
  std::byte* const data = transfer.data + transfer.num_done;
  const std::size_t left = transfer.num_bytes - transfer.num_done;
  const std::size_t moved = goes_out ? ring_.write(data, left) : ring_.read(data, left);
  transfer.num_done += moved;
  progress.has_moved = progress.has_moved || moved > 0;
  progress.finished = moved == left;
  return progress;
}

std::size_t MessageLane::drop(const LocalCall& call) {
  const auto is_of_call = [&](const LocalTransfer& transfer) { return transfer.call == &call; };
  return std::erase_if(transfers_, is_of_call);
}

}  // namespace gimbal
