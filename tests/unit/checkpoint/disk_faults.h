// A disk that is slow or full for one file: this program's own fsync takes the place of the C
// library's. To be included by one source file of a program.
#pragma once

#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <string>
#include <thread>

namespace gimbal::testing {

/// What happens to files whose path ends with `file`; set while nothing is being written.
struct DiskFault {
  std::string file;
  std::chrono::milliseconds delay{0};
  int error = 0;  // errno instead of success
};

inline DiskFault& disk_fault() {
  static DiskFault fault;
  return fault;
}

/// Sets a fault and takes it away again.
class WithDiskFault {
 public:
  explicit WithDiskFault(DiskFault fault) { disk_fault() = std::move(fault); }
  ~WithDiskFault() { disk_fault() = {}; }
  WithDiskFault(const WithDiskFault&) = delete;
  WithDiskFault& operator=(const WithDiskFault&) = delete;
};

}  // namespace gimbal::testing

extern "C" int fsync(int fd) {
  const gimbal::testing::DiskFault& fault = gimbal::testing::disk_fault();
  if (!fault.file.empty()) {
    std::error_code ignored;
    const std::string path =
        std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(fd), ignored).string();
    if (path.ends_with(fault.file)) {
      std::this_thread::sleep_for(fault.delay);
      if (fault.error != 0) {
        errno = fault.error;
        return -1;
      }
    }
  }
  return static_cast<int>(::syscall(SYS_fsync, fd));
}
