// What is known before the first step: model, data, packs, memory, length of the run.
#pragma once

#include <string>
#include <vector>

#include "gimbal/balance/sampler.h"
#include "gimbal/base/json.h"
#include "gimbal/train/report/memory_fit.h"

namespace gimbal {

/// What each rank is and holds.
struct RankFacts {
  std::string host;
  std::string coordinates;                 // in the mesh; empty for a run without axes
  std::vector<std::string> blocks;         // first and last of each of its stages
  std::uint64_t state_bytes = 0;           // measured: parameters, gradients, optimizer state
  std::string shared_memory_trouble = {};  // CommWorld's; in no file
};

struct RunSummary {
  std::string run;
  std::string model_type;
  std::uint64_t parameters = 0;
  std::uint64_t trainable_parameters = 0;
  std::string dataset;
  std::uint64_t samples = 0;
  std::uint64_t tokens = 0;
  std::uint64_t media = 0;
  BalanceReport balance;
  double waste = 0;                   // of the epoch's mean step, as StepPlan::waste
  std::vector<std::string> rejected;  // samples that are left out, with the reason
  MemoryFit fit;
  std::int64_t program_bytes = 0;  // resident before the first step: libraries, parameters
  int ranks = 1;
  std::string mesh;                   // "pp 2, dp_shard 2"; "1 device"
  std::vector<RankFacts> rank_facts;  // of every rank
  int threads = 1;
  std::string dtype;
  double peak_flops = 0;
  std::int64_t first_step = 0;
  std::int64_t total_steps = 0;
  double step_flops = 0;  // model FLOPs of a mean step
};

Json to_json(const RunSummary& summary);
/// Several lines for a person.
std::string to_text(const RunSummary& summary);

}  // namespace gimbal
