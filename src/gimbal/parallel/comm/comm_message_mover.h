// Collectives made of messages between any two ranks. Included by comm_*.cpp only.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "gimbal/parallel/comm/comm_mover.h"

namespace gimbal {

class MessageMover : public CommMover {
 public:
  MessageMover(int rank, int size) : rank_(rank), size_(size) {}

  StartedCall all_gather(const at::Tensor& out, const at::Tensor& in) override;
  StartedCall all_gather_rows(const at::Tensor& out, const at::Tensor& in,
                              const std::vector<std::int64_t>& rows) override;
  StartedCall reduce_scatter(const at::Tensor& out, const at::Tensor& in) override;
  StartedCall all_to_all(const at::Tensor& out, const at::Tensor& in,
                         const std::vector<std::int64_t>& out_rows,
                         const std::vector<std::int64_t>& in_rows) override;

 protected:
  /// One message to and from every other rank: tensors by rank, of which those of this rank are not
  /// looked at. Both sides know which have no values; these are left out.
  virtual StartedCall exchange(const std::vector<at::Tensor>& sent,
                               const std::vector<at::Tensor>& received) = 0;

  int rank() const { return rank_; }
  int size() const { return size_; }
  /// Views of room for what the other ranks send, by rank; this rank's is undefined.
  std::vector<at::Tensor> rows_of_others(const at::Tensor& room) const;

 private:
  int rank_;
  int size_;
};

/// out = the sum of the parts in the order of the ranks, so that it does not depend on which rank
/// adds; in float32 where the dtype is shorter. `own`: of rank `rank`; `received`: [size - 1, ...]
/// of the other ranks, in their order. `own` and `received` are overwritten; `out` may be `own`.
void add_in_rank_order(const at::Tensor& out, const at::Tensor& own, const at::Tensor& received,
                       int rank);

}  // namespace gimbal
