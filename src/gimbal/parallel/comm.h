// A process group: named collectives with a timeout. The only door to c10d.
#pragma once

#include <ATen/core/Tensor.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "gimbal/parallel/launch.h"

namespace gimbal {

/// An operation under way.
class CommWork {
 public:
  virtual ~CommWork() = default;
  /// Makes the result usable by work that follows (on CPU: waits for it). Throws UserError naming
  /// collective, name, rank and seconds on failure or timeout.
  virtual void wait() = 0;
};

/// All calls are collective over the group, in the same order on all ranks, from one thread, with
/// contiguous tensors of the same shape and dtype on all ranks, on device(). `name` says what is
/// communicated. Calls that wait throw as CommWork::wait does.
class Comm {
 public:
  virtual ~Comm() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  /// Where the tensors have to be.
  virtual at::Device device() const = 0;
  /// In place. The tensor must stay alive and untouched until wait(). The result is the same bit
  /// for bit on all ranks.
  virtual std::unique_ptr<CommWork> all_reduce_sum(at::Tensor tensor, const std::string& name) = 0;
  virtual std::unique_ptr<CommWork> broadcast(at::Tensor tensor, int root,
                                              const std::string& name) = 0;
  /// [size, ...] of every rank's tensor.
  virtual at::Tensor all_gather(const at::Tensor& tensor, const std::string& name) = 0;
  /// Returns when all ranks have called it.
  virtual void barrier(const std::string& name) = 0;
};

/// Bytes of every rank, in rank order (uneven lengths allowed). Collective. Meant for small things:
/// it moves size() times the longest.
std::vector<std::string> all_gather_bytes(Comm& comm, const std::string& bytes,
                                          const std::string& name);

/// The group of one process: every call returns at once.
std::unique_ptr<Comm> make_single_comm();

/// All processes of the launch: Gloo on CPU tensors, NCCL on CUDA tensors; one process needs
/// neither. Collective. Throws UserError when not all processes arrive within `timeout` (rank 0
/// names the missing ones), when the port is taken, and for a CUDA device with a torch without
/// NCCL.
std::unique_ptr<Comm> make_world_comm(const LaunchInfo& launch, const at::Device& device,
                                      std::chrono::milliseconds timeout);

}  // namespace gimbal
