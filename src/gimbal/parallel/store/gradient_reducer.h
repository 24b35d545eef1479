// Sums gradients over ranks beside the backward pass.
#pragma once

#include <ATen/core/Tensor.h>

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "gimbal/parallel/comm.h"

namespace gimbal {

/// Which collectives run, and their order, depends on the calls alone. At most one block's whole
/// gradients wait for their reduction while the next block's are made: two blocks' are held, and
/// what arrives of one of them (on CPU; NCCL has buffers of its own).
///
/// On CUDA the collectives run on their process groups' streams; the current stream waits for the
/// reduce-scatter of a block when the next block is reduced.
class GradientReducer {
 public:
  explicit GradientReducer(Comm& shard) : shard_(shard) {}

  /// A block's gradients of a micro-batch come next: finishes those of the blocks before.
  void begin_block();
  /// Several shards: sum += this rank's part of the sum of `whole` over the shard group. Then, when
  /// `last`, `sum` is summed over `replicas`. One shard: `whole` is undefined.
  void add(at::Tensor sum, at::Tensor whole, Comm& replicas, bool last, const std::string& name);
  /// Waits for everything.
  void finish();
  bool is_idle() const { return scatters_.empty() && all_reduces_.empty(); }

 private:
  struct Scatter {
    at::Tensor sum;
    at::Tensor whole;  // kept alive
    at::Tensor part;   // this rank's, of whole
    Comm* replicas;
    bool last;
    std::string name;
    std::unique_ptr<CommWork> work;
  };
  void reduce_over_replicas(const at::Tensor& sum, Comm& replicas, const std::string& name);

  Comm& shard_;
  std::deque<Scatter> scatters_;
  std::vector<std::unique_ptr<CommWork>> all_reduces_;
};

}  // namespace gimbal
