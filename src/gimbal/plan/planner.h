// The planner: search over mesh, caps, schedule, cuts and recompute.
#pragma once

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "gimbal/plan/methods.h"
#include "gimbal/plan/packed_work.h"
#include "gimbal/plan/plan.h"

namespace gimbal {

class PackMemo;

/// What is asked. Absent choices are searched.
struct PlanInput {
  ModelDesc model;
  ProfileTable profile;
  SampleTable samples;
  std::vector<bool> frozen;  // per block; empty: all trained
  StateBytes state;
  int devices = 1;
  /// Fixed axes; absent: searched.
  std::optional<int> pp, tp, sp, ep, dp_shard, dp_replicate;
  std::optional<PipelineKind> schedule;
  int stages_per_rank = 2;                         // of interleaved candidates; 1: none of these
  std::optional<ShardPolicy> shard_policy;         // of weights that dp_shard divides
  std::optional<std::vector<std::uint64_t>> caps;  // text, vision (0: none)
  /// Samples of an optimizer step, all ranks: every plan does the same training.
  double samples_per_step = 128;
  std::optional<std::uint64_t> packs_per_step;  // instead of samples_per_step, with given caps
  std::optional<Bytes> memory_bytes;            // of a device, instead of the profile's
  std::set<std::string> without;                // passes that are switched off: see pass_names()
  std::size_t num_top = 3;
  std::uint64_t seed = 0;
  /// Remembers packs between calls with this input or copies of it, changed or not. Null: nothing
  /// is remembered. See make_pack_memo.
  std::shared_ptr<PackMemo> memo;
};

std::shared_ptr<PackMemo> make_pack_memo();

/// Passes in order: "caps" (search of batch caps; without: the given ones or 4096 tokens), "mesh"
/// (without: all devices data parallel), "schedules" (without: 1F1B only), "partition" (without:
/// equal parameters), "recompute" (without: all blocks recompute everything), "refine" (cuts and
/// levels moved by one while the simulation gets faster).
std::vector<std::string> pass_names();

/// Throws UserError when nothing works: devices that the given axes do not divide, axes that the
/// model does not allow (says which head or layer count), memory too small for any plan (says the
/// least that would do), samples above a cap (says which), an unknown pass.
PlanResult make_plan(const PlanInput& input);

/// The published methods on the mesh, caps and schedule of `best`, in the same simulator.
std::vector<Plan> compare_methods(const PlanInput& input, const Plan& best);

/// Predicts a given plan (from a file, or edited by hand) on the input's samples.
Prediction predict_plan(const PlanInput& input, const Plan& plan);

}  // namespace gimbal
