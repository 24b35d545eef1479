// Where a recipe says otherwise than the plan that it follows, and how to get a plan that agrees.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "gimbal/config/recipe.h"
#include "gimbal/plan/plan.h"

namespace gimbal {

/// What every `gimbal plan RECIPE ...` that replaces `plan` ends with, as without a machine there
/// is no plan and without a file no plan is written: "--hardware a100-80g --out FILE", or
/// "--profile FILE --out FILE" for one that was measured or has a machine of the user's own.
std::string last_plan_words(const Plan& plan);

/// Takes whole numbers of the plan over and collects the options that the plan contradicts.
class PlanOptions {
 public:
  PlanOptions(StageRecipe& stage, std::string plan_file, const Plan& plan)
      : stage_(stage), plan_file_(std::move(plan_file)), last_words_(last_plan_words(plan)) {}

  /// `option`: as ParallelConflict::option.
  void take(const std::string& key, std::int64_t& field, std::uint64_t planned,
            const std::string& option);

  bool is_given(const std::string& key) const { return !place_given(key).empty(); }

  /// An option with its value, what a plan has to say against it, and how to get a plan that has
  /// it; without `option` there is none.
  void add(const std::string& key, const std::string& value, const std::string& against,
           const std::string& option = "");

  /// Before the plan's axes, `planned`, replace those that the recipe asks for.
  void compare_axes(const ParallelConfig& asked, const ParallelConfig& planned);

  /// `devices`: of the plan, and so of the run.
  void throw_if_any(int devices) const;

 private:
  /// Where the recipe sets `key` or a part of it; empty when it has its default.
  std::string place_given(const std::string& key) const;
  bool can_have(int devices) const;

  StageRecipe& stage_;
  std::string plan_file_;
  std::string last_words_;
  std::string problems_;
  std::string fitting_keys_;
  std::string fitting_words_;
  bool has_other_axes_ = false;     // than the plan
  bool leaves_replicas_ = true;     // dp_replicate is what the devices leave
  std::int64_t asked_devices_ = 1;  // product of the axes that the recipe sets
};

}  // namespace gimbal
