// Schedules of all kinds for tests, and the time they take when actions of a kind are equally long.
#pragma once

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "gimbal/base/error.h"
#include "gimbal/schedule/schedule.h"
#include "gimbal/schedule/text.h"

namespace gimbal::testing {

/// All shapes with up to `ranks` ranks and `micro_batches` micro-batches; interleaved with up to
/// three stages per rank, where the shape exists.
inline std::vector<ScheduleShape> all_shapes(int ranks, int micro_batches) {
  std::vector<ScheduleShape> shapes;
  for (int r = 1; r <= ranks; ++r) {
    for (int m = 1; m <= micro_batches; ++m) {
      for (PipelineKind kind :
           {PipelineKind::kGpipe, PipelineKind::kOneFOneB, PipelineKind::kZeroBubble}) {
        shapes.push_back({kind, r, 1, m});
      }
      if (m % std::max(1, m / r) != 0) continue;
      for (int v = 1; v <= 3; ++v) shapes.push_back({PipelineKind::kInterleaved, r, v, m});
    }
  }
  return shapes;
}

/// Of one stage and micro-batch; whole numbers, so that sums are exact.
struct ActionSeconds {
  long forward = 1;
  long input = 1;  // a whole backward takes input + weight
  long weight = 1;
};

/// Runs the schedule by trying each rank in turn: slow, and written apart from check_schedule and
/// from the simulator. Throws InternalError when no rank gets on.
inline long total_time(const Schedule& schedule, const ActionSeconds& seconds) {
  std::map<std::pair<int, int>, long> forward_end, backward_end;
  std::vector<std::size_t> at(schedule.ranks.size(), 0);
  std::vector<long> free(schedule.ranks.size(), 0);
  for (bool moved = true; moved;) {
    moved = false;
    for (std::size_t rank = 0; rank < schedule.ranks.size(); ++rank) {
      if (at[rank] == schedule.ranks[rank].size()) continue;
      const Action& action = schedule.ranks[rank][at[rank]];
      const bool forward = action.kind == ActionKind::kForward;
      long start = free[rank];
      if (action.kind != ActionKind::kBackwardWeight) {
        const auto& ends = forward ? forward_end : backward_end;
        const int from = action.stage + (forward ? -1 : 1);
        if (from >= 0 && from < schedule.num_stages) {
          const auto message = ends.find({from, action.micro_batch});
          if (message == ends.end()) continue;
          start = std::max(start, message->second);
        }
      }
      long length = seconds.forward;
      if (action.kind == ActionKind::kBackward) length = seconds.input + seconds.weight;
      if (action.kind == ActionKind::kBackwardInput) length = seconds.input;
      if (action.kind == ActionKind::kBackwardWeight) length = seconds.weight;
      free[rank] = start + length;
      if (forward) forward_end[{action.stage, action.micro_batch}] = free[rank];
      if (action.kind == ActionKind::kBackward || action.kind == ActionKind::kBackwardInput) {
        backward_end[{action.stage, action.micro_batch}] = free[rank];
      }
      ++at[rank];
      moved = true;
    }
  }
  for (std::size_t rank = 0; rank < at.size(); ++rank) {
    GIMBAL_CHECK_EQ(at[rank], schedule.ranks[rank].size(), "rank ", rank, " is stuck");
  }
  return *std::max_element(free.begin(), free.end());
}

}  // namespace gimbal::testing
