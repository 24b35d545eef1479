// A process group: named collectives with a timeout. The only door to c10d.
#pragma once

#include <ATen/core/Tensor.h>

#include <chrono>
#include <cstdint>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "gimbal/base/error.h"
#include "gimbal/parallel/launch.h"

namespace gimbal {

/// A collective has failed or timed out. The first line names collective, what, rank, group and
/// seconds, and the ranks that look dead or stuck; the last collectives of this rank follow. Also:
/// the processes do not find or reach each other. No UserError: the next start may do better.
class CommError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// An operation under way.
class CommWork {
 public:
  virtual ~CommWork() = default;
  /// Makes the result usable by work that follows.
  /// On CPU: waits for it. Throws CommError on failure, on timeout, and soon after another rank has
  /// failed. After that nothing more can be done in any group: the process is expected to end.
  /// On CUDA: holds back the current stream, not the host, and so cannot throw for what happens
  /// later. After a failure or the timeout NCCL's watchdog ends the process from its own thread
  /// (SIGABRT, no exception); what the terminate report of make_comm_world prints comes first. A
  /// rank that only waits for the GPU notices another rank's failure by that timeout.
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
  /// What carries the calls: "shared memory", "gloo", "nccl", or "none" for one process.
  virtual std::string transport() const = 0;
  /// In place. The tensor must stay alive and untouched until wait(). The result is the same bit
  /// for bit on all ranks.
  virtual std::unique_ptr<CommWork> all_reduce_sum(at::Tensor tensor, const std::string& name) = 0;
  virtual std::unique_ptr<CommWork> broadcast(at::Tensor tensor, int root,
                                              const std::string& name) = 0;
  /// [size, ...] of every rank's tensor.
  virtual at::Tensor all_gather(const at::Tensor& tensor, const std::string& name) = 0;
  /// `out`, flat, has size() times the values of `in`, rank by rank. Both must stay alive and
  /// untouched until wait(); `in` may be this rank's part of `out`.
  virtual std::unique_ptr<CommWork> all_gather_into(at::Tensor out, at::Tensor in,
                                                    const std::string& name) = 0;
  /// As all_gather_into for rows of dim 0 that differ in number: `in` holds rows_of_ranks[rank()]
  /// rows, `out` those of all ranks, rank by rank. Ranks may have no rows. This default sends
  /// copies through all_to_all; groups of processes copy nothing, or (NCCL) pad to the largest.
  virtual std::unique_ptr<CommWork> all_gather_rows(at::Tensor out, at::Tensor in,
                                                    const std::vector<std::int64_t>& rows_of_ranks,
                                                    const std::string& name);
  /// `out` is this rank's part, of size() equal ones, of the sum of every rank's flat `in`. `in`
  /// may be overwritten; `out` may be this rank's part of it. The sum does not depend on who asks.
  virtual std::unique_ptr<CommWork> reduce_scatter_sum(at::Tensor out, at::Tensor in,
                                                       const std::string& name) = 0;
  /// Rows of dim 0: `in` holds in_rows[r] rows for each rank r, `out` gets out_rows[r] from each.
  /// Zero rows are allowed everywhere, also in all.
  virtual std::unique_ptr<CommWork> all_to_all(at::Tensor out, at::Tensor in,
                                               const std::vector<std::int64_t>& out_rows,
                                               const std::vector<std::int64_t>& in_rows,
                                               const std::string& name) = 0;
  /// Between two ranks, not collective: messages from one rank to another arrive in the order in
  /// which they were sent. Tensors without values are not sent. The tensor must stay alive and
  /// untouched until wait().
  virtual std::unique_ptr<CommWork> send(at::Tensor tensor, int to, const std::string& name) = 0;
  virtual std::unique_ptr<CommWork> receive(at::Tensor tensor, int from,
                                            const std::string& name) = 0;
  /// Returns when all ranks have called it.
  virtual void barrier(const std::string& name) = 0;
};

/// Bytes of every rank, in rank order (uneven lengths allowed). Collective. Meant for small things:
/// it moves size() times the longest.
std::vector<std::string> all_gather_bytes(Comm& comm, const std::string& bytes,
                                          const std::string& name);

/// The group of one process: every call returns at once.
std::unique_ptr<Comm> make_single_comm(const at::Device& device = at::kCPU);

/// What this rank has communicated with one kind of call.
struct CommTotal {
  std::string group;        // "world", or as make_group named it
  std::string call;         // "all-gather", "send", ..
  std::int64_t calls = 0;   // those without values included
  std::int64_t bytes = 0;   // that this rank has received; of "send": sent
  double wait_seconds = 0;  // of the host; on CUDA streams wait, and this is about 0
};

/// Everything that makes groups of the processes of a launch.
class CommWorld {
 public:
  virtual ~CommWorld() = default;
  /// The group of all processes.
  virtual Comm& world() = 0;
  /// A group of some of them, in this order; this rank is one of `ranks`. Collective over these
  /// ranks, while no call is under way; `name` is unique among all groups of the launch and goes
  /// into error messages. A group of one costs nothing.
  virtual std::unique_ptr<Comm> make_group(const std::string& name,
                                           const std::vector<int>& ranks) = 0;
  /// Counted since the launch, an entry for each group of more than one and each kind of call. An
  /// all-reduce counts as a reduce-scatter and an all-gather, a barrier no bytes. Not collective.
  virtual std::vector<CommTotal> totals() const = 0;
  /// Why messages between ranks of this machine go through TCP: because the machine's ranks are
  /// refused shared memory, or the first group that is. "group world of ranks 0, 1: rank 0:
  /// ftruncate: File too large", in the same words on all ranks of the group. Empty when memory is
  /// shared, was not wanted (GIMBAL_TRANSPORT=tcp), no other rank is on this machine, and on CUDA.
  /// Not collective.
  virtual std::string shared_memory_trouble() const = 0;
  /// What errors add to the rank, e.g. "pp 1, dp_shard 0".
  virtual void set_coordinates(const std::string& text) = 0;
  /// To be called with an error that ends this rank, before it unwinds: the errors of the other
  /// ranks then name its first line, and come within a second or two instead of after the timeout.
  /// Not collective. Errors of collectives report themselves.
  virtual void report_failure(const std::exception& error) noexcept = 0;
};

/// All processes of the launch: shared memory (within a machine) and Gloo for CPU tensors, NCCL for
/// CUDA tensors; one process needs none of them. From then on std::terminate, also in a thread of
/// Gloo (a message longer than its receiver expects) or NCCL, first tells the other ranks and
/// prints the error and the last collectives to stderr. Collective. Throws CommError when not all
/// processes arrive within `timeout` (rank 0 names the missing ones) and when the port is taken,
/// UserError for a CUDA device with a torch without NCCL and for a network interface that is not
/// there.
std::unique_ptr<CommWorld> make_comm_world(const LaunchInfo& launch, const at::Device& device,
                                           std::chrono::milliseconds timeout);

/// The world of make_comm_world alone, for programs that need no other group.
std::unique_ptr<Comm> make_world_comm(const LaunchInfo& launch, const at::Device& device,
                                      std::chrono::milliseconds timeout);

}  // namespace gimbal
