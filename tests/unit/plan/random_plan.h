// Any plan that a file can hold.
#pragma once

#include <rapidcheck.h>

#include <cmath>
#include <string>
#include <vector>

#include "balance/check_cases.h"
#include "gimbal/plan/plan.h"

namespace gimbal::testing {

/// A number with all its digits, of any size; also below 0, as a difference of times may be.
inline double random_figure() {
  const double digits = static_cast<double>(*between<std::int64_t>(-(1LL << 53), 1LL << 53));
  return std::ldexp(digits, *between(-80, 20));
}

inline std::vector<std::string> random_block_names() {
  std::vector<std::string> names{"vision.embed"};
  for (int i = 0, n = *between(0, 12); i < n; ++i) names.push_back("vision." + std::to_string(i));
  if (*between(0, 2) > 0) names.push_back("projector");
  // A number that is missing, and one that is written with a zero in front.
  if (*between(0, 4) == 0) names.insert(names.end(), {"odd.007", "odd.8", "odd.9", "odd.11"});
  names.push_back("text.embed");
  for (int i = 0, n = *between(1, 14); i < n; ++i) names.push_back("text." + std::to_string(i));
  names.push_back("text.head");
  return names;
}

inline Plan random_plan() {
  Plan plan;
  plan.model_type = "internvl";
  plan.model_fingerprint = "0123abcd";
  plan.profile_origin = "analytic";
  plan.hardware = "a100-80g";
  plan.dtype = "bfloat16";
  plan.method = "omnibal + full";
  plan.blocks = random_block_names();
  if (*between(0, 2) == 0) {
    // The first blocks: at least one, so that an empty list stands for none.
    plan.frozen.assign(plan.blocks.size(), false);
    plan.frozen[0] = true;
    for (std::size_t i = 1; i < plan.blocks.size(); ++i) plan.frozen[i] = *between(0, 2) == 0;
  }
  const int num_blocks = static_cast<int>(plan.blocks.size());
  plan.schedule.kind = static_cast<PipelineKind>(*between(0, 4));
  plan.schedule.stages_per_rank = plan.schedule.kind == PipelineKind::kInterleaved ? 2 : 1;
  plan.mesh.pp = *between(1, num_blocks / plan.schedule.stages_per_rank + 1);
  plan.mesh.dp_replicate = *between(1, 5);
  plan.mesh.dp_shard = *between(1, 5);
  plan.mesh.sp = *between(1, 3);
  plan.mesh.tp = *between(1, 9);
  plan.mesh.ep = *between(0, 2) == 0 ? 1 : plan.mesh.dp_shard;
  plan.micro_batches = *between(1, 100);
  plan.schedule.ranks = plan.mesh.pp;
  plan.schedule.micro_batches = plan.micro_batches;
  plan.packs_per_step = static_cast<std::uint64_t>(plan.micro_batches * plan.mesh.data_parallel());
  plan.shard_policy = *between(0, 2) == 0 ? ShardPolicy::kReshard : ShardPolicy::kKeepWeights;
  plan.streams = {"text"};
  plan.caps = {*between<std::uint64_t>(0, ~std::uint64_t{0})};
  if (*between(0, 2) == 0) {
    plan.streams.push_back("vision");
    plan.caps.push_back(*between<std::uint64_t>(0, 100));
  }
  const int num_stages = plan.mesh.pp * plan.schedule.stages_per_rank;
  plan.layout.stage_begin = {0};
  for (int s = 1; s <= num_stages; ++s) {
    const int begin = static_cast<int>(plan.layout.stage_begin.back());
    const int left = num_stages - s;
    plan.layout.stage_begin.push_back(static_cast<std::size_t>(
        s == num_stages ? num_blocks : *between(begin + 1, num_blocks - left + 1)));
  }
  for (int i = 0; i < num_blocks; ++i) {
    plan.layout.recompute.push_back(static_cast<Recompute>(*between(0, 4)));
  }
  Prediction& own = plan.prediction;
  for (double* value :
       {&own.step.seconds, &own.step.compute, &own.step.recompute, &own.step.communication,
        &own.step.bubble, &own.step.imbalance, &own.bound.work, &own.bound.critical_path,
        &own.bound.memory, &own.bound.fill, &own.capacity_bytes, &own.samples_per_step,
        &own.tokens_per_second_per_device, &own.utilisation, &own.epoch_seconds}) {
    *value = random_figure();
  }
  for (int r = 0; r < plan.mesh.pp; ++r) own.peak_bytes.push_back(random_figure());
  for (int s = 0; s < num_stages; ++s) own.stage_seconds.push_back(random_figure());
  for (const char* name : {"vision_layer", "text_layer", "text_head"}) {
    own.classes.push_back({name, random_figure(), random_figure()});
  }
  return plan;
}

}  // namespace gimbal::testing
