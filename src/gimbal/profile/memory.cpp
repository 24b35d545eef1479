#include "gimbal/profile/memory.h"

#include <sys/resource.h>

#include <fstream>
#include <string>

#include "gimbal/base/error.h"

namespace gimbal {

namespace {

/// A line such as "VmHWM: 123 kB" of the process' status, in bytes.
std::int64_t status_bytes(const std::string& key) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(key)) return std::stoll(line.substr(key.size())) * 1024;
  }
  rusage usage{};
  GIMBAL_CHECK(getrusage(RUSAGE_SELF, &usage) == 0, "getrusage");
  return static_cast<std::int64_t>(usage.ru_maxrss) * 1024;  // Linux counts KiB
}

}  // namespace

std::int64_t resident_bytes() { return status_bytes("VmRSS:"); }

std::int64_t peak_resident_bytes() { return status_bytes("VmHWM:"); }

void reset_peak_resident_bytes() {
  // Where the system does not allow it, the peak stays that of the whole process.
  std::ofstream("/proc/self/clear_refs") << "5";
}

}  // namespace gimbal
