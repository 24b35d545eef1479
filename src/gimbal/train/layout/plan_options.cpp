#include "gimbal/train/layout/plan_options.h"

#include <algorithm>

#include "gimbal/base/error.h"
#include "gimbal/config/mesh_shape.h"
#include "gimbal/cost/hardware.h"

namespace gimbal {

std::string last_plan_words(const Plan& plan) {
  const bool is_known =
      plan.profile_origin == "analytic" &&
      std::ranges::find(known_hardware(), plan.hardware, &Hardware::name) != known_hardware().end();
  return (is_known ? "--hardware " + plan.hardware : "--profile FILE") + " --out FILE";
}

std::string PlanOptions::place_given(const std::string& key) const {
  const auto it = stage_.given.find(key);
  return it == stage_.given.end() ? "" : it->second;
}

void PlanOptions::take(const std::string& key, std::int64_t& field, std::uint64_t planned,
                       const std::string& option) {
  const auto value = static_cast<std::int64_t>(planned);
  if (is_given(key) && field != value)
    add(key, std::to_string(field), concat("the plan has ", value), option);
  field = value;
}

void PlanOptions::add(const std::string& key, const std::string& value, const std::string& against,
                      const std::string& option) {
  const std::string place = place_given(key);
  problems_ += concat("\n  ", place, place.empty() ? "" : ": ", key, " is ", value, "; ", against);
  if (option.empty()) return;
  fitting_keys_ += (fitting_keys_.empty() ? "" : ", ") + key;
  // Both caps go by one option.
  if (fitting_words_.find(option) == std::string::npos) fitting_words_ += " " + option;
}

void PlanOptions::compare_axes(const ParallelConfig& asked, const ParallelConfig& planned) {
  std::string agreeing_words;
  const auto look = [&](const std::string& key, const char* option, std::int64_t size,
                        std::int64_t planned_size) {
    if (!is_given(key)) return;
    asked_devices_ = size > kMostDevices / asked_devices_ ? kMostDevices : asked_devices_ * size;
    if (size != planned_size) has_other_axes_ = true;
    // `gimbal plan` reads those of the recipe's file itself.
    const bool is_in_file = place_given(key) != "command line";
    if (size == planned_size && !is_in_file) agreeing_words += concat(" ", option, " ", size);
  };
  look("parallel.pp", "--pp", asked.pp, planned.pp);
  // 0 stands for what the other axes leave.
  if (is_given("parallel.dp_replicate") && asked.dp_replicate != 0) {
    leaves_replicas_ = false;
    look("parallel.dp_replicate", "--dp-replicate", asked.dp_replicate, planned.dp_replicate);
  }
  look("parallel.dp_shard", "--dp-shard", asked.dp_shard, planned.dp_shard);
  look("parallel.sp", "--sp", asked.sp, planned.sp);
  look("parallel.tp", "--tp", asked.tp, planned.tp);
  if (has_other_axes_) fitting_words_ += agreeing_words;
}

bool PlanOptions::can_have(int devices) const {
  if (!has_other_axes_ || asked_devices_ == devices) return true;
  return leaves_replicas_ && devices % asked_devices_ == 0;
}

void PlanOptions::throw_if_any(int devices) const {
  if (problems_.empty()) return;
  std::string advice =
      "\nRemove these keys from the recipe to follow the plan, or leave train.plan out.";
  if (!fitting_keys_.empty()) {
    advice += concat(" For a plan that fits ", fitting_keys_, ": `gimbal plan RECIPE");
    // Without --devices a plan is for the product of its axes.
    advice += can_have(devices)
                  ? concat(" --devices ", devices, fitting_words_, " ", last_words_, "`.")
                  : concat(fitting_words_, " ", last_words_, "`, and train with --nproc ",
                           asked_devices_, ".");
  }
  throw UserError(concat("the recipe and the plan '", plan_file_,
                         "' (train.plan) do not agree:", problems_, advice));
}

}  // namespace gimbal
