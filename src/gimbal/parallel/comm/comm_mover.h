// How a backend moves bytes between the ranks of a group. Included by comm_*.cpp only.
#pragma once

#include <torch/csrc/distributed/c10d/Backend.hpp>

#include <memory>
#include <string>
#include <vector>

#include "gimbal/parallel/comm/comm_work.h"

namespace gimbal {

class LocalGroup;

/// The arguments have been checked. Called by all ranks of the group in the same order, except
/// send and receive.
class CommMover {
 public:
  virtual ~CommMover() = default;
  /// As Comm::transport.
  virtual std::string transport() const = 0;
  virtual StartedCall all_reduce(const at::Tensor& tensor) = 0;
  virtual StartedCall broadcast(const at::Tensor& tensor, int root) = 0;
  virtual StartedCall all_gather(const at::Tensor& out, const at::Tensor& in) = 0;
  /// `rows` of each rank, of which some rank has more than none.
  virtual StartedCall all_gather_rows(const at::Tensor& out, const at::Tensor& in,
                                      const std::vector<std::int64_t>& rows) = 0;
  virtual StartedCall reduce_scatter(const at::Tensor& out, const at::Tensor& in) = 0;
  virtual StartedCall all_to_all(const at::Tensor& out, const at::Tensor& in,
                                 const std::vector<std::int64_t>& out_rows,
                                 const std::vector<std::int64_t>& in_rows) = 0;
  virtual StartedCall send(const at::Tensor& tensor, int to) = 0;
  virtual StartedCall receive(const at::Tensor& tensor, int from) = 0;
};

/// The backend's own collectives; on CUDA.
std::unique_ptr<CommMover> make_native_mover(c10::intrusive_ptr<c10d::Backend> backend);

/// Through Gloo's connections: messages from each rank straight to each other one, with nothing
/// copied on the way, where Gloo's own all-gather goes through a copy and its reduce-scatter is an
/// all-reduce. All-reduce and broadcast are Gloo's.
std::unique_ptr<CommMover> make_gloo_mover(c10::intrusive_ptr<c10d::Backend> backend);

/// The same messages through memory that the ranks, all of one machine, share.
std::unique_ptr<CommMover> make_shared_mover(std::shared_ptr<LocalGroup> group);

}  // namespace gimbal
