// Stands in for comm_nccl.cpp where torch was built without NCCL.
#ifndef USE_C10D_NCCL

#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include "gimbal/base/error.h"
#include "gimbal/parallel/comm/comm_c10d.h"

namespace gimbal {

void check_nccl(const LaunchInfo& launch, const c10::Device& device) {
  throw UserError(concat("this torch has no NCCL: ", launch.world_size,
                         " processes cannot train on ", device.str(),
                         "; install a CUDA build of torch and build again, or set "
                         "train.device=cpu"));
}

c10::intrusive_ptr<c10d::Backend> make_nccl_backend(const BackendSetup& /*setup*/,
                                                    const c10::Device& device) {
  GIMBAL_CHECK(false, "no NCCL for ", device.str());
}

}  // namespace gimbal

#endif  // USE_C10D_NCCL
