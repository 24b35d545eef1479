#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

#include "gimbal/base/error.h"
#include "gimbal/parallel/comm_c10d.h"

namespace gimbal {
namespace {

/// All processes on this machine, by their number or by the address where they meet.
bool is_one_machine(const LaunchInfo& launch) {
  return launch.local_world_size == launch.world_size || launch.master_address == "localhost" ||
         launch.master_address == "::1" || launch.master_address.starts_with("127.");
}

std::vector<std::string> split_names(const std::string& names) {
  std::vector<std::string> result;
  for (std::size_t begin = 0; begin <= names.size();) {
    const std::size_t end = std::min(names.find(',', begin), names.size());
    if (end > begin) result.push_back(names.substr(begin, end - begin));
    begin = end + 1;
  }
  return result;
}

}  // namespace

c10::intrusive_ptr<c10d::Backend> make_gloo_backend(const CommSetup& setup) {
  using c10d::ProcessGroupGloo;
  const auto options = ProcessGroupGloo::Options::create(setup.timeout);
  const LaunchInfo& launch = setup.launch;
  for (const std::string& name : split_names(launch.socket_interfaces)) {
    try {
      options->devices.push_back(ProcessGroupGloo::createDeviceForInterface(name));
    } catch (const std::exception& e) {
      throw UserError(concat("GLOO_SOCKET_IFNAME='", launch.socket_interfaces,
                             "': the network interface '", name, "' cannot be used on rank ",
                             launch.rank, ": ", reason_of(e)));
    }
  }
  if (options->devices.empty()) {
    options->devices.push_back(is_one_machine(launch)
                                   ? ProcessGroupGloo::createDeviceForInterface("lo")
                                   : ProcessGroupGloo::createDefaultDevice());
  }
  return c10::make_intrusive<ProcessGroupGloo>(setup.store, launch.rank, launch.world_size,
                                               options);
}

}  // namespace gimbal
