// Copies of a rank's values in host memory: what is saved while training changes the values.
#pragma once

#include <ATen/core/Tensor.h>

#include "gimbal/checkpoint/sharded/rank_file.h"

namespace gimbal {

class HostCopies {
 public:
  /// Replaces the values of all pieces by copies; they are complete when it returns. Copies of CUDA
  /// tensors are in pinned memory that this object keeps and overwrites at the next call.
  void take(RankPieces& pieces);

 private:
  at::Tensor pinned_;  // bytes
};

}  // namespace gimbal
