// Runs a pipeline schedule: actions in their order, with the messages between stages.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <functional>
#include <vector>

#include "gimbal/models/flow.h"
#include "gimbal/models/flow_shape.h"
#include "gimbal/parallel/comm.h"
#include "gimbal/schedule/schedule.h"

namespace gimbal {

/// What a stage hands to the next for one micro-batch. Known to both sides from the index.
struct StageBoundary {
  FlowShape shape;  // of this rank's rows
  at::ScalarType dtype = at::kFloat;
  bool needs_gradient = true;  // a block before it is trained
};

/// A rank's stages. Called in the order of the schedule.
class StageRunner {
 public:
  virtual ~StageRunner() = default;
  /// `in`: what the stage before has handed over (empty for stage 0). Returns detached outputs.
  virtual Flow forward(int stage, int micro_batch, Flow in) = 0;
  /// `gradients`: of the outputs (empty for the last stage). Returns those of the inputs.
  virtual Flow backward(int stage, int micro_batch, Flow gradients) = 0;
  /// The halves of backward.
  virtual Flow backward_input(int stage, int micro_batch, Flow gradients) = 0;
  virtual void backward_weight(int stage, int micro_batch) = 0;
  /// Between `stage` and the next.
  virtual StageBoundary boundary(int stage, int micro_batch) const = 0;
};

/// Null with one rank. Activations go through `forward`, gradients through `backward`; between two
/// ranks everything from rank 0 goes through `forward` and everything to it through `backward`.
struct PipelineGroups {
  Comm* forward = nullptr;
  Comm* backward = nullptr;
};

/// Sends a number over every link. NCCL connects two ranks in their first message and waits for
/// both there, which in a schedule, where each posts its receives ahead, they could do for ever.
/// Call it before the first run_schedule. Collective over the pipeline; nothing to do for one rank.
void connect_stages(const PipelineGroups& groups);

/// Called around each action: (action, begin?). For recording and timing.
using ActionObserver = std::function<void(const Action&, bool begin)>;

/// Runs this rank's list of `schedule`. Receives are posted one action ahead, or as many as
/// it takes that ranks cannot wait for each other (parallel/pipeline/receives_ahead.h); sends are
/// waited for when two more have been started or at the end. Collective over the pipeline. Stages
/// on one rank hand their tensors over directly. Tensors without rows are not sent.
void run_schedule(const Schedule& schedule, const PipelineGroups& groups, StageRunner& runner,
                  const ActionObserver& observer = {}, bool forward_only = false);

}  // namespace gimbal
