// A note beside a rank's file that changes while the file is being written: a slow disk is no lost
// rank.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <mutex>
#include <thread>

namespace gimbal {

/// While it lives, "rank-00003.writing" in the folder changes every now and then, from a thread of
/// its own: the one that writes may be held up by the disk for minutes. Removed at the end.
class WritingSign {
 public:
  /// The first sign comes after `every`: quick saves give none.
  WritingSign(const std::filesystem::path& folder, int rank, std::chrono::milliseconds every);
  ~WritingSign();
  WritingSign(const WritingSign&) = delete;
  WritingSign& operator=(const WritingSign&) = delete;

 private:
  void run();

  std::filesystem::path note_;
  std::chrono::milliseconds every_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stop_ = false;
  std::thread thread_;  // last: it uses the others
};

/// What another process can see of a rank's writing. Two looks that differ: it goes on.
struct SeenSign {
  std::filesystem::file_time_type note_time;
  std::uintmax_t file_bytes = 0;
  bool operator==(const SeenSign&) const = default;
};
SeenSign look_for_sign(const std::filesystem::path& folder, int rank);

}  // namespace gimbal
