// What a pipeline rank holds beside activations, for the simulation and for planning.
#pragma once

#include <cstddef>
#include <vector>

#include "gimbal/cost/cost_model.h"

namespace gimbal {

struct RankState {
  Bytes state = 0;     // state_bytes of its blocks, and of a tied head's copy of the embedding
  Bytes gathered = 0;  // compute copies that come and go, and whole gradients
  Bytes total() const { return state + gathered; }
};

/// Consecutive blocks.
struct BlockSpan {
  std::size_t begin = 0, end = 0;
};

/// Of the rank that runs `spans`, in steps of so many micro-batches.
///
/// kReshard: two gathered copies and two whole gradients, the largest of its blocks: those of the
/// block in use, the copy that is gathered ahead and the gradient that is being reduced.
/// kKeepWeights: all whole gradients; with one micro-batch, whose backward reduces them, two, and
/// that of a weight which embedding and head share: it waits from the head to the embedding.
RankState rank_state(const CostModel& costs, const std::vector<BlockSpan>& spans,
                     int micro_batches);

/// Whether all whole gradients of a rank wait for the last backward of a step.
bool gradients_wait(const CostModel& costs, int micro_batches);
/// What the block brings to every rank that has it, for the whole step: its state, and its whole
/// gradient where gradients wait.
Bytes lasting_bytes(const CostModel& costs, std::size_t block, int micro_batches);

}  // namespace gimbal
