// What is known before the first step: model, data, packs, memory, length of the run.
#pragma once

#include <string>
#include <vector>

#include "gimbal/base/json.h"
#include "gimbal/train/build.h"

namespace gimbal {

/// Estimated bytes of one rank at its peak.
struct MemoryEstimate {
  double parameters = 0;  // master values and, if it differs, the compute copy
  double gradients = 0;
  double optimizer = 0;
  double activations = 0;  // what backward needs of a pack that fills the caps

  double total() const { return parameters + gradients + optimizer + activations; }
};

MemoryEstimate estimate_memory(const Model& model, DType dtype,
                               const std::vector<TapeLevel>& levels, const WorkSize& pack);

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
  MemoryEstimate memory;
  int ranks = 1;
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
