#include "gimbal/sim/pipeline.h"

#include <algorithm>

#include "gimbal/base/error.h"
#include "gimbal/sim/pipeline_run.h"

namespace gimbal {
namespace {

/// Whether the backward of each cell is split into kBackwardInput and kBackwardWeight.
std::vector<bool> split_cells(const Schedule& schedule) {
  const auto micro_batches = static_cast<std::size_t>(schedule.num_micro_batches);
  std::vector<bool> split(static_cast<std::size_t>(schedule.num_stages) * micro_batches, false);
  for (const std::vector<Action>& actions : schedule.ranks) {
    for (const Action& action : actions) {
      if (action.kind != ActionKind::kBackwardInput) continue;
      split[static_cast<std::size_t>(action.stage) * micro_batches +
            static_cast<std::size_t>(action.micro_batch)] = true;
    }
  }
  return split;
}

/// All dependencies are inside a micro-batch: its forwards down the stages, its backwards up.
Seconds longest_chain(const Schedule& schedule, const PipelineCosts& costs) {
  const auto stages = static_cast<std::size_t>(schedule.num_stages);
  const auto micro_batches = static_cast<std::size_t>(schedule.num_micro_batches);
  const bool sends = schedule.num_ranks > 1;
  const std::vector<bool> split = split_cells(schedule);
  Seconds longest = 0;
  for (std::size_t m = 0; m < micro_batches; ++m) {
    Seconds end = 0;
    for (std::size_t stage = 0; stage < stages; ++stage) {
      const std::size_t cell = stage * micro_batches + m;
      end += costs.work[cell].forward;
      if (sends && stage + 1 < stages) end += costs.messages[cell];
    }
    for (std::size_t stage = stages; stage-- > 0;) {
      const std::size_t cell = stage * micro_batches + m;
      const StageWork& work = costs.work[cell];
      if (sends && stage + 1 < stages) end += costs.messages[cell];
      end += split[cell] ? work.backward_input : work.backward;
      longest = std::max(longest, end + (split[cell] ? work.backward_weight : 0));
    }
  }
  return longest;
}

}  // namespace

PipelineResult run_in_full(PipelineRun& run, const Schedule& schedule, const PipelineCosts& costs,
                           std::span<const Bytes> static_bytes) {
  GIMBAL_CHECK_EQ(static_bytes.size(), schedule.ranks.size());
  PipelineResult result;
  run.run(costs, &result.ranks);
  result.seconds = run.seconds();
  for (std::size_t rank = 0; rank < schedule.ranks.size(); ++rank) {
    const PipelineRun::RankTotals& totals = run.ranks()[rank];
    result.busy.push_back(totals.busy);
    result.send_wait.push_back(totals.send_wait);
    result.peak_bytes.push_back(static_bytes[rank] + totals.peak);
    for (ActionTimes& times : result.ranks[rank]) {
      times.bytes += static_bytes[rank];
      times.bytes_after += static_bytes[rank];
    }
    result.peak_action.push_back(totals.peak_action);
  }
  result.critical_path = longest_chain(schedule, costs);
  return result;
}

PipelineResult simulate_pipeline(const PipelineInput& input) {
  GIMBAL_CHECK(input.schedule != nullptr);
  const Schedule& schedule = *input.schedule;
  const auto stages = static_cast<std::size_t>(schedule.num_stages);
  const auto micro_batches = static_cast<std::size_t>(schedule.num_micro_batches);
  GIMBAL_CHECK_EQ(input.work.size(), stages * micro_batches);
  GIMBAL_CHECK_EQ(input.links.size(), stages - 1);
  std::vector<Seconds> messages(input.work.size(), 0);
  for (std::size_t stage = 0; stage + 1 < stages; ++stage) {
    for (std::size_t cell = stage * micro_batches; cell < (stage + 1) * micro_batches; ++cell) {
      messages[cell] = input.links[stage].seconds(input.work[cell].send);
    }
  }
  PipelineRun run(schedule, input.overlap_sends);
  return run_in_full(run, schedule, {input.work, messages, input.earliest_start},
                     input.static_bytes);
}

}  // namespace gimbal
