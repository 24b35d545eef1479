#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

#include "gimbal/base/error.h"
#include "gimbal/parallel/comm/comm_c10d.h"

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

GlooTransports make_gloo_transports(const LaunchInfo& launch) {
  using c10d::ProcessGroupGloo;
  GlooTransports transports;
  for (const std::string& name : split_names(launch.socket_interfaces)) {
    try {
      transports.push_back(ProcessGroupGloo::createDeviceForInterface(name));
    } catch (const std::exception& e) {
      throw UserError(concat("GLOO_SOCKET_IFNAME='", launch.socket_interfaces,
                             "': the network interface '", name,
                             "' cannot be used: ", reason_of(e)));
    }
  }
  if (transports.empty()) {
    transports.push_back(is_one_machine(launch) ? ProcessGroupGloo::createDeviceForInterface("lo")
                                                : ProcessGroupGloo::createDefaultDevice());
  }
  return transports;
}

c10::intrusive_ptr<c10d::Backend> make_gloo_backend(const BackendSetup& setup,
                                                    const GlooTransports& transports) {
  const auto options = c10d::ProcessGroupGloo::Options::create(setup.timeout);
  options->devices = transports;
  return c10::make_intrusive<c10d::ProcessGroupGloo>(setup.store, setup.rank, setup.size, options);
}

}  // namespace gimbal
