// A plan's mesh, schedule and cuts as the section `parallel` of a recipe, and where a recipe says
// otherwise.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "gimbal/config/recipe.h"
#include "gimbal/plan/plan.h"

namespace gimbal {

PipelineKind pipeline_kind_of(PipelineChoice choice);
PipelineChoice pipeline_choice_of(PipelineKind kind);

/// `config` with the plan's axes, schedule, stages and policy for weights; what no plan says stays.
ParallelConfig parallel_of_plan(const Plan& plan, ParallelConfig config);

/// A key of `parallel` that the recipe sets to something else than the plan has.
struct ParallelConflict {
  std::string key;    // "parallel.pp"
  std::string asked;  // the recipe's value, as text
  std::string planned;
  /// The words after `gimbal plan RECIPE` that plan with the recipe's value: "--pp 4"; empty where
  /// a plan always chooses by itself.
  std::string option;
};

/// `given`: as StageRecipe::given; keys that are not in it follow the plan. An order of stages
/// counts with several pipeline ranks only, a policy for weights with dp_shard above 1: otherwise
/// both mean the same.
std::vector<ParallelConflict> parallel_conflicts(const Plan& plan, const ParallelConfig& config,
                                                 const std::map<std::string, std::string>& given);

}  // namespace gimbal
