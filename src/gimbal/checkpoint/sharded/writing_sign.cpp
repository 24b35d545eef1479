#include "gimbal/checkpoint/sharded/writing_sign.h"

#include <fstream>

#include "gimbal/checkpoint/sharded/rank_file.h"

namespace gimbal {

WritingSign::WritingSign(const std::filesystem::path& folder, int rank,
                         std::chrono::milliseconds every)
    : note_(writing_note_path(folder, rank)), every_(every), thread_([this] { run(); }) {}

WritingSign::~WritingSign() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
    changed_.notify_all();
  }
  thread_.join();
  std::error_code ignored;  // nobody reads it any more, and readers of checkpoints pass over it
  std::filesystem::remove(note_, ignored);
}

void WritingSign::run() {
  std::unique_lock lock(mutex_);
  for (std::uint64_t count = 1; !changed_.wait_for(lock, every_, [&] { return stop_; }); ++count) {
    lock.unlock();
    // Not synced: the disk is busy with the rank's file. A sign that cannot be written is missed.
    std::ofstream(note_) << count << "\n";
    lock.lock();
  }
}

SeenSign look_for_sign(const std::filesystem::path& folder, int rank) {
  SeenSign sign;
  std::error_code error;
  const auto time = std::filesystem::last_write_time(writing_note_path(folder, rank), error);
  if (!error) sign.note_time = time;
  const auto bytes = std::filesystem::file_size(rank_file_path(folder, rank), error);
  if (!error) sign.file_bytes = bytes;
  return sign;
}

}  // namespace gimbal
