// NCCL, where torch was built with it; comm_no_nccl.cpp elsewhere.
#ifdef USE_C10D_NCCL

#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

#include "gimbal/parallel/comm_c10d.h"

namespace gimbal {

void check_nccl(const LaunchInfo& /*launch*/, const c10::Device& /*device*/) {}

c10::intrusive_ptr<c10d::Backend> make_nccl_backend(const CommSetup& setup,
                                                    const c10::Device& device) {
  auto options = c10d::ProcessGroupNCCL::Options::create();
  options->timeout = setup.timeout;
  auto backend = c10::make_intrusive<c10d::ProcessGroupNCCL>(setup.store, setup.launch.rank,
                                                             setup.launch.world_size, options);
  backend->setBoundDeviceId(device);
  backend->eagerConnectSingleDevice(device);
  return backend;
}

}  // namespace gimbal

#endif  // USE_C10D_NCCL
