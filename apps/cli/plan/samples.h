// The samples that a plan is made for, from tables of lengths or a dataset folder.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "gimbal/data/length_table.h"
#include "gimbal/plan/packed_work.h"

namespace gimbal::cli {

/// Samples of a plan with where each comes from.
struct PlanSamples {
  SampleTable table;                   // its `describe` names samples: "a.csv line 12"
  std::vector<std::uint32_t> entries;  // of each sample: its place in `lengths`
  std::shared_ptr<const LengthTable> lengths;
};

/// The streams of `lengths` by what the model calls them. A source of weight 2 has its samples
/// twice, one of weight 0.5 every other one; `weights` replaces those of the sources that it names.
/// Throws UserError for columns that are no stream of the model, sources that are not there, and
/// tables without samples.
PlanSamples plan_samples(std::shared_ptr<const LengthTable> lengths, const ModelDesc& model,
                         const std::map<std::string, double>& weights);

/// Leaves out samples above a cap, or throws UserError that lists them, as `policy` says. Returns
/// how many were left out.
std::size_t screen_plan_samples(PlanSamples& samples, const std::vector<std::uint64_t>& caps,
                                OversizePolicy policy);

}  // namespace gimbal::cli
