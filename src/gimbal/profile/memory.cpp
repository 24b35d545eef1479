#include "gimbal/profile/memory.h"

#include <sys/resource.h>

#include <algorithm>
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

MemoryEstimate estimate_training_memory(const ModelDesc& model, const WorkSize& work,
                                        const MemorySetting& setting) {
  GIMBAL_CHECK_EQ(setting.frozen.size(), model.blocks.size());
  GIMBAL_CHECK_EQ(setting.full_recompute.size(), model.blocks.size());
  const double master = setting.master_bytes;
  const double compute = setting.compute_bytes;
  MemoryEstimate estimate;
  double recomputed_values = 0;  // of the largest recomputed block
  double input_values = 0;
  bool any_trainable = false;
  for (std::size_t i = 0; i < model.blocks.size(); ++i) {
    const BlockDesc& block = model.blocks[i];
    const auto num_parameters = static_cast<double>(block.num_parameters);
    estimate.parameter_bytes += num_parameters * (master == compute ? master : master + compute);
    if (!setting.frozen[i]) {
      any_trainable = true;
      estimate.gradient_bytes += num_parameters * master;
      estimate.optimizer_bytes += num_parameters * 2 * master;
    }
    const double rows = work_rows(block, work);
    const double saved_values = block.saved_values_per_row * rows;
    if (any_trainable) {
      if (setting.full_recompute[i]) {
        estimate.activation_bytes += input_values * compute;
        recomputed_values = std::max(recomputed_values, saved_values);
      } else {
        estimate.activation_bytes += saved_values * compute;
      }
    }
    input_values = block.output_values_per_row * rows;
  }
  estimate.activation_bytes += recomputed_values * compute;
  return estimate;
}

}  // namespace gimbal
