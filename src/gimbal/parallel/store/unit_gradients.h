// The gradients of a trainable unit on this rank: whole, as the backward pass makes them, and its
// shard of their sum.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "gimbal/parallel/store/flat_unit.h"

namespace gimbal {

/// With one shard the whole buffer is the sum itself. With more it is made when it is first needed
/// and goes to the reduction; its size is that of the whole unit.
class UnitGradients {
 public:
  /// `leaves`: of the layout's places, in the compute dtype.
  UnitGradients(const UnitLayout& layout, std::vector<at::Tensor> leaves, at::ScalarType master);

  /// [shard_numel] master dtype, of the step.
  const at::Tensor& sum() const { return sum_; }

  /// Zeroes the sum and forgets what was not reduced.
  void begin_step();
  /// Before gradients of all leaves come. Autograd adds to a gradient that is there already: with
  /// equal dtypes straight into the whole buffer. Gradients that came before move into it.
  void begin_backward();
  /// Adds the leaves' gradients, if they are of another dtype, to the whole buffer.
  void collect();
  /// Hands over the whole buffer with the gradients so far: zeros where none came. With several
  /// shards only.
  at::Tensor take_whole();
  /// Whether every gradient is in the sum, or was taken.
  bool all_taken() const;

 private:
  void make_whole();

  UnitLayout layout_;
  std::vector<at::Tensor> leaves_;
  bool in_place_;  // autograd adds to the whole buffer
  at::Tensor sum_;
  at::Tensor whole_;               // undefined: not made
  std::vector<at::Tensor> views_;  // of whole_, per leaf
};

}  // namespace gimbal
