// Published ways to cut a pipeline and to choose what is recomputed, for comparison.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "gimbal/plan/cut_problem.h"

namespace gimbal {

/// kGimbal: joint and exact (solve_partition). kParameters: equal parameter counts. kLayers: equal
/// numbers of layers. kOmniBal: profiled forward times, anchor and radius, variance + communication
/// ranking (arXiv 2407.20761). kAdaPipe: like AdaPipe (Sun et al., ASPLOS 2024): cuts and recompute
/// by dynamic programming over stages with a knapsack per stage.
enum class PartitionMethod { kGimbal, kParameters, kLayers, kOmniBal, kAdaPipe };

/// How the levels of a given cut are chosen. kFull: all blocks full. kNone: all keep. kOmniBal: per
/// stage whole layers, from the memory that full recompute leaves. kKnapsack: exact per stage.
enum class RecomputeMethod { kFull, kNone, kOmniBal, kKnapsack };

/// "gimbal", "parameters", "layers", "omnibal", "adapipe"; "full", "none", "omnibal", "knapsack".
const char* method_name(PartitionMethod method);
const char* method_name(RecomputeMethod method);
PartitionMethod partition_method(const std::string& name);  // UserError lists the names
RecomputeMethod recompute_method(const std::string& name);

struct OmniBalOptions {
  int radius = 1;      // of the search around the anchor
  int keep_best = 50;  // of each ranking
  /// Memory that its recompute rule leaves free. Where its counts do not fit all the same, the rule
  /// is applied again with more, as its users do by hand.
  double reserve_bytes = 0;
};

/// Step time of a layout, as a real run (or the simulator) gives it; infinite when it cannot run.
using MeasureLayout = std::function<Seconds(const StageLayout&)>;

/// Cuts with the method's own view of cost; recompute levels full. At least one block per stage.
/// Throws UserError when there are fewer blocks than stages.
StageLayout cut_by_parameters(const CutProblem& problem);
/// Vision and text layers are counted alike; embeddings, projector, norm and head stay with their
/// neighbours. The first stages have one more where the numbers differ. With fewer layers than
/// stages, blocks are counted.
StageLayout cut_by_layers(const CutProblem& problem);
/// The fastest of OmniBal's candidates by `measure`, which is called once for each of the union of
/// both rankings (variance of the forward times; bytes sent, then variance). Cuts that cross or
/// leave a stage empty are no candidates. Throws UserError for a negative radius or nothing to
/// keep.
StageLayout cut_by_omnibal(const CutProblem& problem, const OmniBalOptions& options,
                           const MeasureLayout& measure);
/// Cuts and levels; nothing when no cut fits the memory.
std::optional<StageLayout> cut_by_adapipe(const CutProblem& problem);

/// Changes layout.recompute. False when the method finds no choice that fits (levels are then
/// full).
bool choose_recompute(const CutProblem& problem, RecomputeMethod method,
                      const OmniBalOptions& options, StageLayout& layout);

}  // namespace gimbal
