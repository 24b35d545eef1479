#include "gimbal/profile/machine.h"

#include <c10/core/CachingDeviceAllocator.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

#include "gimbal/base/error.h"

namespace gimbal {
namespace {

std::string cpu_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (!line.starts_with("model name")) continue;
    const std::size_t begin = line.find_first_not_of(" \t", line.find(':') + 1);
    if (begin != std::string::npos) return line.substr(begin);
  }
  return "CPU";
}

/// The control group's limit (version 2, then 1); `otherwise` where there is none.
double limited_bytes(double otherwise) {
  double bytes = otherwise;
  for (const char* file :
       {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
    std::ifstream limit(file);
    // "max" is no number: no limit.
    if (double value = 0; limit >> value) bytes = std::min(bytes, value);
  }
  return bytes;
}

}  // namespace

std::string machine_name(const c10::Device& device, int threads) {
  if (!device.is_cpu()) return device.str();
  return concat(cpu_name(), ", ", threads, threads == 1 ? " thread" : " threads");
}

double machine_memory_bytes(const c10::Device& device, int processes_on_machine) {
  if (!device.is_cpu()) {
    return static_cast<double>(
        c10::getDeviceAllocator(device.type())->getMemoryInfo(device.index()).second);
  }
  const double installed =
      static_cast<double>(::sysconf(_SC_PHYS_PAGES)) * static_cast<double>(::sysconf(_SC_PAGESIZE));
  return limited_bytes(installed) / processes_on_machine;
}

}  // namespace gimbal
