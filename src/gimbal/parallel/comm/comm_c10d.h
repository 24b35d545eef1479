// What the files that talk to c10d share. Included by comm_*.cpp only.
#pragma once

#include <c10/util/intrusive_ptr.h>

#include <chrono>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "gimbal/parallel/launch.h"

namespace c10 {
struct Device;
}
namespace c10d {
class Backend;
class Store;
}  // namespace c10d
namespace gloo::transport {
class Device;
}

namespace gimbal {

class Comm;
class LocalGroup;
struct CommGroup;

/// The message without the stack trace, the places in Gloo's sources and the advice that c10 and
/// Gloo add: "Connection closed by peer [127.0.0.1]:24487".
std::string reason_of(const std::exception& error);

/// The store through which the processes find each other; rank 0 serves it unless torchrun does.
/// Returns when all have arrived; throws CommError naming the missing ranks. Collective.
c10::intrusive_ptr<c10d::Store> meet(const LaunchInfo& launch, std::chrono::milliseconds timeout);

/// One more connection to that store, once it is served.
c10::intrusive_ptr<c10d::Store> connect_to_store(const LaunchInfo& launch,
                                                 std::chrono::milliseconds timeout);

/// What makes the backend of a group: where its processes meet, and how long they wait.
struct BackendSetup {
  c10::intrusive_ptr<c10d::Store> store;
  int rank = 0;
  int size = 1;
  std::chrono::milliseconds timeout{};
};

/// Network interfaces, each with a thread that moves the bytes of all groups.
using GlooTransports = std::vector<std::shared_ptr<gloo::transport::Device>>;
GlooTransports make_gloo_transports(const LaunchInfo& launch);

/// Connects to the others. Collective.
c10::intrusive_ptr<c10d::Backend> make_gloo_backend(const BackendSetup& setup,
                                                    const GlooTransports& transports);

/// Throws UserError when this torch has no NCCL. Not collective: to call before the processes meet,
/// so that each says it instead of losing its partner.
void check_nccl(const LaunchInfo& launch, const c10::Device& device);

/// As make_gloo_backend, for tensors on `device`.
c10::intrusive_ptr<c10d::Backend> make_nccl_backend(const BackendSetup& setup,
                                                    const c10::Device& device);

/// The group's calls: through the memory that its ranks share, or else through the backend.
std::unique_ptr<Comm> make_c10d_comm(std::shared_ptr<CommGroup> group,
                                     c10::intrusive_ptr<c10d::Backend> backend,
                                     std::shared_ptr<LocalGroup> local);

}  // namespace gimbal
