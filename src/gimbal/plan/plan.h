// The decision: how a model is trained on given devices, and what that is predicted to take.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "gimbal/arch/model_desc.h"
#include "gimbal/config/mesh_shape.h"
#include "gimbal/cost/cost_model.h"
#include "gimbal/schedule/schedule.h"
#include "gimbal/sim/step.h"

namespace gimbal {

/// Lower bounds on the mean step time of any plan on these devices (docs/planning_model.md).
struct StepBound {
  Seconds work = 0;           // total work at the best recompute / devices
  Seconds critical_path = 0;  // the largest micro-batch, through all blocks
  Seconds memory = 0;         // work that memory forces to be done again included
  Seconds fill = 0;           // a pipeline of this depth has to fill and drain; 0 for one stage
  Seconds seconds() const;    // the largest
};

struct Prediction {
  StepTime step;  // mean over the simulated steps
  StepBound bound;
  std::vector<Seconds> stage_seconds;  // per stage: mean compute of a micro-batch
  std::vector<Bytes> peak_bytes;       // per stage rank
  Bytes capacity_bytes = 0;
  double samples_per_step = 0;
  double tokens_per_second_per_device = 0;  // text rows
  double utilisation = 0;                   // model FLOPs / (devices * peak * seconds)
  Seconds epoch_seconds = 0;
  /// Mean seconds per micro-batch, by cost class over all its blocks: forward, and backward with
  /// recompute.
  struct ClassTime {
    std::string cost_class;
    Seconds forward = 0;
    Seconds backward = 0;
  };
  std::vector<ClassTime> classes;
};

struct Plan {
  std::string model_type;
  std::string model_fingerprint;  // ProfileTable::model_fingerprint of the model planned for
  std::string profile_origin, hardware, dtype;
  MeshShape mesh;
  std::vector<std::string> streams;  // "text", "vision"
  std::vector<std::uint64_t> caps;   // most rows of a pack, per stream; 0: none
  std::uint64_t packs_per_step = 1;  // of all data-parallel ranks
  int micro_batches = 1;             // of one rank: packs_per_step / data-parallel ranks
  ScheduleShape schedule;
  ShardPolicy shard_policy = ShardPolicy::kKeepWeights;
  std::vector<std::string> blocks;  // names
  std::vector<bool> frozen;         // per block; empty: none
  StageLayout layout;
  Prediction prediction;
  std::string method;  // "gimbal", or the published methods' names: "omnibal + full", ...
};

/// What was done to find a plan.
struct PassReport {
  std::string name;
  bool enabled = true;
  Seconds seconds = 0;
  std::string result;  // one line
};

struct PlanResult {
  Plan best;
  std::vector<Plan> top;  // best first, `best` included
  std::vector<PassReport> passes;
  std::uint64_t num_meshes = 0, num_candidates = 0, num_simulated = 0;
  /// Least bound of all candidates, per sample: no plan that was searched can be faster.
  Seconds bound_per_sample = 0;
};

}  // namespace gimbal
