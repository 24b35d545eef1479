#include "apps/cli/balance/memory_peak.h"

#include <algorithm>
#include <fstream>
#include <string>

namespace gimbal::cli {
namespace {

// A figure of /proc/self/status, which is in KiB; 0 where there is none.
std::uint64_t status_bytes(const std::string& key) {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    std::uint64_t kibibytes = 0;
    if (word == key + ":" && status >> kibibytes) return kibibytes * 1024;
  }
  return 0;
}

}  // namespace

MemoryPeak::MemoryPeak() {
  std::ofstream clear("/proc/self/clear_refs");
  clear << "5" << std::flush;  // the highest size becomes the present one
  before_ = status_bytes(clear.good() ? "VmRSS" : "VmHWM");
}

std::uint64_t MemoryPeak::bytes() const {
  const std::uint64_t now = status_bytes("VmHWM");
  return std::max(now, before_) - before_;
}

}  // namespace gimbal::cli
