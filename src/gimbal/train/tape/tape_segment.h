// What the tape keeps of a block's parts between their forward and their backward.
#pragma once

#include <functional>
#include <vector>

#include "gimbal/config/recipe.h"
#include "gimbal/models/block.h"

namespace gimbal {

/// The same values without their graph.
Flow detached(const Flow& flow);

/// Called when parts begin and end to run again.
using RerunObserver = std::function<void(bool begin)>;

/// Parts of a block that are recorded together: with their graph, or with their inputs alone, from
/// which they are run again. The block must outlive the segment and be open while it runs.
class TapeSegment {
 public:
  /// The parts [begin, end).
  TapeSegment(const Block& block, int begin, int end, bool keep)
      : block_(&block), begin_(begin), end_(end), keep_(keep) {}

  /// Outputs ask for a gradient where they need one.
  Flow forward(const PassContext& context, Flow in);
  /// Adds to the parameters' gradients and returns those of the inputs: undefined where nothing
  /// needs one or nothing has used the input. Once per forward.
  Flow backward(const PassContext& context, Flow gradients, const RerunObserver& observer = {});

 private:
  Flow run_parts(const PassContext& context) const;

  const Block* block_;
  int begin_, end_;
  bool keep_;
  Flow inputs_;   // leaves
  Flow outputs_;  // with the parts' graph; empty when they are run again
};

/// The segments of a block at a recompute level, in order.
std::vector<TapeSegment> segments_of(const Block& block, Recompute level);

}  // namespace gimbal
