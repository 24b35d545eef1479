// What the files that talk to c10d share. Included by comm_*.cpp only.
#pragma once

#include <c10/util/intrusive_ptr.h>

#include <chrono>
#include <exception>
#include <string>

#include "gimbal/parallel/launch.h"

namespace c10 {
struct Device;
}
namespace c10d {
class Backend;
class Store;
}  // namespace c10d

namespace gimbal {

/// The message without the stack trace that c10 adds.
std::string reason_of(const std::exception& error);

/// The store through which the processes find each other; rank 0 serves it unless torchrun does.
/// Returns when all have arrived; throws UserError naming the missing ranks. Collective.
c10::intrusive_ptr<c10d::Store> meet(const LaunchInfo& launch, std::chrono::milliseconds timeout);

/// What makes a backend: where the processes meet, and how long they wait.
struct CommSetup {
  const LaunchInfo& launch;
  c10::intrusive_ptr<c10d::Store> store;
  std::chrono::milliseconds timeout;
};

/// Connects to the others. Collective.
c10::intrusive_ptr<c10d::Backend> make_gloo_backend(const CommSetup& setup);

/// Throws UserError when this torch has no NCCL. Not collective: to call before the processes meet,
/// so that each says it instead of losing its partner.
void check_nccl(const LaunchInfo& launch, const c10::Device& device);

/// As make_gloo_backend, for tensors on `device`.
c10::intrusive_ptr<c10d::Backend> make_nccl_backend(const CommSetup& setup,
                                                    const c10::Device& device);

}  // namespace gimbal
