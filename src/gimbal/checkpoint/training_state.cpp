#include "gimbal/checkpoint/training_state.h"

#include <type_traits>

namespace gimbal {
namespace {

// One list of fields for both ways.
void visit_state(auto& self, auto&& v) {
  v("step", self.step);
  v("epoch", self.epoch);
  v("step_in_epoch", self.step_in_epoch);
  v("seed", self.seed);
  v("optimizer_steps", self.optimizer_steps);
  v("samples", self.samples);
  v("tokens", self.tokens);
  v("loss_tokens", self.loss_tokens);
  v("elapsed_milliseconds", self.elapsed_milliseconds);
  v("stage", self.stage);
  v("recipe_fingerprint", self.recipe_fingerprint);
  v("dataset_fingerprint", self.dataset_fingerprint);
}

bool is_count(const Json& json) {
  return json.is_number_unsigned() || (json.is_number_integer() && json.get<std::int64_t>() >= 0);
}

}  // namespace

Json to_json(const TrainingState& state) {
  Json json = Json::object();
  visit_state(state, [&](const char* name, const auto& value) { json[name] = value; });
  return json;
}

TrainingState training_state_from_json(const Json& json, const std::string& where) {
  GIMBAL_USER_CHECK(json.is_object(), where, ": the training state is no JSON object");
  TrainingState state;
  visit_state(state, [&](const char* name, auto& value) {
    using Value = std::remove_reference_t<decltype(value)>;
    if constexpr (std::is_integral_v<Value>) {
      // A silent conversion would turn 1.5 into 1 and -1 into a very large number.
      GIMBAL_USER_CHECK(!json.contains(name) || is_count(json[name]), where, ": key '", name,
                        "' is no whole number of at least 0");
    }
    value = json_get<Value>(json, name, where);
  });
  return state;
}

}  // namespace gimbal
