// "Will it fit?" before the first step: the largest micro-batch against the machine's memory.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "gimbal/base/json.h"
#include "gimbal/plan/plan.h"
#include "gimbal/profile/memory.h"
#include "gimbal/train/data/step_plan.h"

namespace gimbal {

struct MemoryFit {
  PlacedBatch largest;                  // of the epoch at hand, by its activations
  MemoryEstimate memory;                // while it runs
  double program_bytes = 0;             // held before the first step beside the parameters
  double machine_bytes = 0;             // what a process may use
  std::optional<double> planned_bytes;  // the plan's peak
  std::vector<std::string> samples;     // of the largest micro-batch, described
  std::string coordinates;              // of the rank in the mesh; empty without axes

  /// The estimate, or the plan's peak when that is more; with what the program holds.
  double needed_bytes() const;
  bool fits() const { return needed_bytes() <= machine_bytes; }
};

MemoryFit find_memory_fit(StepPlanner& planner, const Dataset& dataset, std::uint64_t epoch,
                          const ModelDesc& model, const MemorySetting& setting);

/// What ranks tell each other of their fits, and back.
std::string encode_fit(const MemoryFit& fit);
MemoryFit decode_fit(const std::string& text);

/// Of the fits of all ranks the one with least room left.
MemoryFit tightest_fit(const std::vector<MemoryFit>& fits);

Json to_json(const MemoryFit& fit);
/// Where the largest micro-batch is run and of what it is made.
std::string to_text(const MemoryFit& fit);
/// What to do when it does not fit.
std::string fit_warning(const MemoryFit& fit);

/// Throws UserError when the plan's own peak is above the machine's memory.
void check_plan_fits(const Plan& plan, const std::string& plan_file, double machine_bytes);

}  // namespace gimbal
