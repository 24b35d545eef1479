// When the gradients of a pipeline rank are reduced over its data-parallel ranks.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "gimbal/sim/pipeline_run.h"
#include "gimbal/sim/stage_costs.h"

namespace gimbal {

/// Per rank: the end of its last reduction. A block's gradients are complete when all data-parallel
/// ranks have passed the block in the stage's last backward, which passes blocks from last to first
/// in the shares of `stages` (as evaluated last). Reductions go in that order, one at a time on
/// each rank, beside messages of the pipeline. `last_backward`: [data_parallel * num_stages].
std::vector<Seconds> reduction_ends(const CostModel& costs, const StageLayout& layout,
                                    const Schedule& schedule, const StageCosts& stages,
                                    std::span<const PipelineRun::Interval> last_backward);

}  // namespace gimbal
