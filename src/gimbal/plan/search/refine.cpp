#include "gimbal/plan/search/refine.h"

#include <algorithm>

#include "gimbal/base/error.h"
#include "gimbal/plan/partition.h"
#include "gimbal/plan/search/predict.h"

namespace gimbal {
namespace {

constexpr int kMostRounds = 50;
/// Actions that refining may simulate: about a second.
constexpr double kMostActions = 4e7;

}  // namespace

LevelChoice level_choice(const PlanInput& input) {
  return input.without.contains("recompute") ? LevelChoice::kFullOnly : LevelChoice::kAll;
}

std::optional<StageLayout> cut_candidate(Evaluator& evaluator, const Candidate& candidate,
                                         const PackedWork& packed) {
  const CutProblem cut = evaluator.cut_problem(candidate, packed);
  const LevelChoice choice = level_choice(evaluator.input());
  const PartitionProblem problem = partition_problem(cut, choice);
  if (cut.costs->num_blocks() < static_cast<std::size_t>(cut.num_stages)) return std::nullopt;
  const std::optional<Partition> partition =
      evaluator.input().without.contains("partition")
          ? solve_options(problem, cut_by_parameters(cut).stage_begin)
          : solve_partition(problem);
  if (!partition) return std::nullopt;
  return to_layout(*partition, *cut.costs, choice);
}

StageLayout refine_layout(Evaluator& evaluator, const Candidate& candidate,
                          const PackedWork& packed, const StageLayout& layout) {
  const CutProblem cut = evaluator.cut_problem(candidate, packed);
  if (cut.num_stages == 1) return layout;
  const LevelChoice choice = level_choice(evaluator.input());
  const PartitionProblem problem = partition_problem(cut, choice);
  const double actions_each = 2.0 * cut.num_stages * static_cast<double>(candidate.packs_per_step) *
                              static_cast<double>(kPredictedSteps);
  double actions = 0;
  const auto seconds = [&](const StageLayout& tried) {
    actions += actions_each;
    return evaluator.simulate(candidate, tried, packed, kPredictedSteps).time.seconds;
  };
  StageLayout best = layout;
  Seconds best_seconds = seconds(layout);
  const auto try_cuts = [&](const std::vector<std::size_t>& begins) {
    const std::optional<Partition> partition = solve_options(problem, begins);
    if (!partition) return false;
    const StageLayout tried = to_layout(*partition, *cut.costs, choice);
    const Seconds time = seconds(tried);
    if (time >= best_seconds * (1 - 1e-9)) return false;
    best = tried;
    best_seconds = time;
    return true;
  };
  if (!evaluator.input().without.contains("partition") && actions < kMostActions / 40) {
    try_cuts(cut_by_parameters(cut).stage_begin);
    try_cuts(cut_by_layers(cut).stage_begin);
    if (const auto adapipe = cut_by_adapipe(cut)) try_cuts(adapipe->stage_begin);
    try_cuts(cut_by_omnibal(cut, OmniBalOptions{}, seconds).stage_begin);
  }
  for (int round = 0; round < kMostRounds; ++round) {
    bool better = false;
    for (std::size_t s = 1; s + 1 < best.stage_begin.size(); ++s) {
      for (const int move : {-1, 1}) {
        std::vector<std::size_t> begins = best.stage_begin;
        begins[s] += static_cast<std::size_t>(move);
        if (actions > kMostActions) return best;
        if (begins[s] <= begins[s - 1] || begins[s] >= begins[s + 1]) continue;
        better = try_cuts(begins) || better;
      }
    }
    if (!better) break;
  }
  return best;
}

}  // namespace gimbal
