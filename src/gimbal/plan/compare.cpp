#include "gimbal/plan/methods.h"
#include "gimbal/plan/partition.h"
#include "gimbal/plan/planner.h"
#include "gimbal/plan/search/cap_candidates.h"
#include "gimbal/plan/search/predict.h"

namespace gimbal {
namespace {

std::string name_of(PartitionMethod cuts, RecomputeMethod levels) {
  return std::string(method_name(cuts)) + " + " + method_name(levels);
}

}  // namespace

std::vector<Plan> compare_methods(const PlanInput& input, const Plan& best) {
  Evaluator evaluator(input);
  PackCaps caps;
  caps.rows = best.caps;
  caps.rows.resize(2);
  const auto all = pack_all(input, caps, best.packs_per_step);
  const PackedWork& packed = *all;
  const Candidate candidate = candidate_of(best);
  const CutProblem cut = evaluator.cut_problem(candidate, packed);
  const OmniBalOptions options;
  const MeasureLayout measure = [&](const StageLayout& layout) {
    return evaluator.simulate(candidate, layout, packed, kPredictedSteps).time.seconds;
  };

  std::vector<Plan> plans;
  plans.push_back(complete_plan(evaluator, candidate, best.layout, packed, "gimbal"));
  const auto add = [&](StageLayout layout, PartitionMethod cuts, RecomputeMethod levels) {
    if (!choose_recompute(cut, levels, options, layout) && levels == RecomputeMethod::kNone) {
      // Shown as it is, with what it would need.
      layout.recompute.assign(layout.recompute.size(), Recompute::kKeep);
    }
    plans.push_back(complete_plan(evaluator, candidate, layout, packed, name_of(cuts, levels)));
  };
  const StageLayout parameters = cut_by_parameters(cut), layers = cut_by_layers(cut);
  const StageLayout omnibal = cut_by_omnibal(cut, options, measure);
  add(parameters, PartitionMethod::kParameters, RecomputeMethod::kFull);
  add(parameters, PartitionMethod::kParameters, RecomputeMethod::kKnapsack);
  add(layers, PartitionMethod::kLayers, RecomputeMethod::kFull);
  add(layers, PartitionMethod::kLayers, RecomputeMethod::kNone);
  add(layers, PartitionMethod::kLayers, RecomputeMethod::kKnapsack);
  add(omnibal, PartitionMethod::kOmniBal, RecomputeMethod::kFull);
  add(omnibal, PartitionMethod::kOmniBal, RecomputeMethod::kOmniBal);
  if (const auto adapipe = cut_by_adapipe(cut)) {
    plans.push_back(complete_plan(evaluator, candidate, *adapipe, packed, "adapipe"));
  }
  return plans;
}

}  // namespace gimbal
