// What `gimbal plan` and `gimbal simulate` are told about model, data, machine and search.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "apps/cli/command.h"
#include "gimbal/base/units.h"
#include "gimbal/config/mesh_shape.h"
#include "gimbal/schedule/schedule.h"

namespace gimbal::cli {

/// The input options, checked as far as they can be without reading files.
struct PlanInputArguments {
  // A recipe with its overrides and the stage that is planned, or a model with tables of lengths.
  std::string recipe, stage, model;
  std::vector<std::string> overrides, lengths, freeze;
  std::string profile, hardware, dtype;
  std::optional<int> devices;
  std::optional<int> pp, tp, sp, ep, dp_shard, dp_replicate;
  std::optional<PipelineKind> schedule;
  std::optional<int> stages_per_rank;
  std::vector<std::pair<std::string, std::uint64_t>> caps;  // stream, rows
  bool search_caps = false;                                 // --cap auto
  bool reject = false;                                      // --oversize reject
  std::optional<double> samples_per_step;
  std::optional<std::uint64_t> packs_per_step;
  std::optional<Bytes> memory_bytes;
  std::set<std::string> without;
  std::optional<std::uint64_t> seed;
};

/// Adds the input options to `app`, which must outlive it, and reads them after parse(). Stays
/// where it is made.
class PlanInputOptions {
 public:
  explicit PlanInputOptions(CLI::App& app);
  PlanInputOptions(const PlanInputOptions&) = delete;
  PlanInputOptions& operator=(const PlanInputOptions&) = delete;

  /// Throws UserError for words that are no such values and for options that exclude each other.
  /// `plan_given`: a plan file says mesh, schedule and caps.
  PlanInputArguments arguments(bool plan_given) const;

 private:
  PlanInputArguments texts_;  // those that are plain words
  std::string devices_, pp_, tp_, sp_, ep_, dp_shard_, dp_replicate_, schedule_, stages_per_rank_;
  std::string samples_per_step_, packs_per_step_, memory_, seed_, oversize_;
  std::vector<std::string> caps_, without_;
};

/// The arguments of `gimbal plan`.
struct PlanArguments {
  PlanInputArguments input;
  std::string plan_file;  // --plan: evaluate this one instead of searching
  std::string out_file, json_file;
  bool explain = false, compare = false, check = false;
  std::size_t top = 1;
};

/// Parses the words after `gimbal plan`. Throws CLI::Success after --help, UserError for bad words.
PlanArguments parse_plan_arguments(const Arguments& words);

}  // namespace gimbal::cli
