// What a stage holds whatever the levels of its blocks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "gimbal/plan/partition.h"

namespace gimbal {

/// Per range of blocks: state, a tied head's copy, the two largest gathered copies and gradients,
/// and messages' buffers at its cuts. Made once, in O(blocks^2).
class StageState {
 public:
  explicit StageState(const PartitionProblem& problem);
  /// Of the stage begin .. end - 1.
  std::int64_t bytes(std::size_t begin, std::size_t end) const {
    return bytes_[begin * (num_blocks_ + 1) + end];
  }

 private:
  std::size_t num_blocks_;
  std::vector<std::int64_t> bytes_;  // [begin][end]
};

}  // namespace gimbal
