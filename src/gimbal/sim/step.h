// Simulation of an optimizer step: data-parallel pipelines, parameter gathers, gradient reduction,
// optimizer.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "gimbal/cost/cost_model.h"
#include "gimbal/schedule/schedule.h"
#include "gimbal/sim/pipeline.h"

namespace gimbal {

/// How the blocks of a model are run: cuts and recompute. Stage s has the blocks stage_begin[s] ..
/// stage_begin[s + 1].
struct StageLayout {
  std::vector<std::size_t> stage_begin;  // [num_stages + 1]: 0 .. num_blocks, ascending
  std::vector<Recompute> recompute;      // [num_blocks]
  std::size_t num_stages() const { return stage_begin.size() - 1; }
};

/// Where the time of a step goes. The parts are at least 0 and add up to `seconds`. They are those
/// of the mean rank over pipeline and data-parallel ranks; what a rank waits is split by what an
/// equal pipeline would wait: the same schedule with mean costs for each stage and micro-batch.
struct StepTime {
  Seconds seconds = 0;
  /// Forward and backward without recompute, messages inside blocks and gathers; optimizer update
  /// and the profile's overhead of a step.
  Seconds compute = 0;
  Seconds recompute = 0;  // forward done again, without its messages
  /// Messages of tp, sp and ep inside blocks; gathers that no block hides; what the equal pipeline
  /// takes longer with its messages (and, under kKeepWeights, with the gathers of the first
  /// micro-batch) than without; and what reductions take after the last backward of the slowest
  /// rank.
  Seconds communication = 0;
  /// What a rank of the equal pipeline without messages waits.
  Seconds bubble = 0;
  /// The rest: unlike stages, micro-batches, data-parallel ranks and optimizer shares. Where unlike
  /// stages are faster than equal ones, which is rare and slight, it is 0 and bubble is as much
  /// smaller.
  Seconds imbalance = 0;
};

struct StepSimulation {
  StepTime time;
  std::vector<Bytes> peak_bytes;          // per stage rank (pp): largest over data-parallel ranks
  std::vector<Seconds> stage_seconds;     // per stage: mean compute of a micro-batch
  std::vector<PipelineResult> pipelines;  // per data-parallel rank; only when asked for
};

struct StepInput {
  const CostModel* costs = nullptr;
  const StageLayout* layout = nullptr;
  const Schedule* schedule = nullptr;
  /// [data_parallel * num_micro_batches]: rank by rank, in the order they are run.
  std::span<const WorkSize> micro_batches;
  bool keep_pipelines = false;
};

/// StageWork of one micro-batch on one stage. Times and saved bytes are sums over its blocks,
/// workspaces the largest of its blocks. Under ShardPolicy::kReshard the stage's blocks are
/// gathered on a second stream, for forward and again for backward: at most two gathered copies at
/// a time, so that block i is gathered while block i - 1 runs. The same stream reduces the block's
/// gradients in each backward, as they are held in shards. Nothing hides the first gather of a
/// pass.
StageWork stage_work(const CostModel& costs, const StageLayout& layout, std::size_t stage,
                     const WorkSize& work);

/// A data-parallel rank is a pipeline with its own micro-batches. Under ShardPolicy::kKeepWeights
/// each rank gathers its blocks once, from the start of the step on, beside its first forwards.
/// When the last backward of a stage has passed a block (in the shares of block times of the mean
/// micro-batch) on all data-parallel ranks, the block's gradients are reduced, one block at a time
/// per rank. When all gradients are reduced (clipping needs the norm of all), all ranks update; the
/// step ends when the slowest has. Static bytes of a rank: rank_state, and message_buffer_bytes of
/// the largest micro-batch.
StepSimulation simulate_step(const StepInput& input);

}  // namespace gimbal
