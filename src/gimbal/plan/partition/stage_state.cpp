#include "gimbal/plan/partition/stage_state.h"

#include "gimbal/sim/two_largest.h"

namespace gimbal {
namespace {

/// The blocks of a stage, added one after another.
class GrowingStage {
 public:
  explicit GrowingStage(const PartitionProblem& problem) : problem_(problem) {}

  void add(std::size_t index) {
    const PartitionBlock& block = problem_.blocks[index];
    state_ += block.state;
    gathered_.add(block.gathered);
    gradients_.add(block.gradient);
    if (index == problem_.tied_block)
      has_tied_ = true;
    else
      others_.add(block.gradient);
  }

  std::int64_t bytes() const { return state_ + gathered_.sum() + gradients_.sum(); }

  /// With the last block.
  std::int64_t last_bytes() const {
    if (problem_.tied_block >= problem_.blocks.size()) return bytes();
    if (!has_tied_) {
      GrowingStage with_copy = *this;
      with_copy.add(problem_.tied_block);
      return with_copy.bytes();
    }
    if (!problem_.tied_gradient_waits) return bytes();
    const std::int64_t waiting = problem_.blocks[problem_.tied_block].gradient;
    return state_ + gathered_.sum() + waiting + others_.sum();
  }

 private:
  const PartitionProblem& problem_;
  std::int64_t state_ = 0;
  TwoLargest<std::int64_t> gathered_, gradients_, others_;  // others: but the tied block's
  bool has_tied_ = false;
};

}  // namespace

StageState::StageState(const PartitionProblem& problem)
    : num_blocks_(problem.blocks.size()), bytes_(num_blocks_ * (num_blocks_ + 1)) {
  for (std::size_t begin = 0; begin < num_blocks_; ++begin) {
    GrowingStage stage(problem);
    const std::int64_t before = begin > 0 ? problem.blocks[begin - 1].cut_bytes : 0;
    for (std::size_t end = begin + 1; end <= num_blocks_; ++end) {
      stage.add(end - 1);
      bytes_[begin * (num_blocks_ + 1) + end] =
          before + (end < num_blocks_ ? stage.bytes() + problem.blocks[end - 1].cut_bytes
                                      : stage.last_bytes());
    }
  }
}

}  // namespace gimbal
