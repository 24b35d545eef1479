// NCCL, where torch was built with it; comm_no_nccl.cpp elsewhere.
#ifdef USE_C10D_NCCL

#include <ATen/ops/zeros.h>

#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

#include <vector>

#include "gimbal/parallel/comm/comm_c10d.h"

namespace gimbal {

void check_nccl(const LaunchInfo& /*launch*/, const c10::Device& /*device*/) {}

c10::intrusive_ptr<c10d::Backend> make_nccl_backend(const BackendSetup& setup,
                                                    const c10::Device& device) {
  auto options = c10d::ProcessGroupNCCL::Options::create();
  options->timeout = setup.timeout;
  auto backend =
      c10::make_intrusive<c10d::ProcessGroupNCCL>(setup.store, setup.rank, setup.size, options);
  backend->setBoundDeviceId(device);
  // Connects by a collective and not by eagerConnectSingleDevice: after that, messages of all pairs
  // would run one after another with the group's collectives, and a receive that waits would hold
  // up a send to another rank. So each pair has a communicator of its own, which its first message
  // makes (connect_stages does so for pipelines).
  std::vector<at::Tensor> nothing{at::zeros({1}, at::TensorOptions().device(device))};
  backend->allreduce(nothing)->wait();
  return backend;
}

}  // namespace gimbal

#endif  // USE_C10D_NCCL
