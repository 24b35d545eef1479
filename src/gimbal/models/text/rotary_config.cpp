#include "gimbal/models/text/config.h"

namespace gimbal {
namespace {

RotaryScaling scaling_of(const std::string& type, const std::string& where) {
  if (type == "default") return RotaryScaling::kDefault;
  if (type == "linear") return RotaryScaling::kLinear;
  if (type == "dynamic") return RotaryScaling::kDynamic;
  if (type == "yarn") return RotaryScaling::kYarn;
  if (type == "llama3") return RotaryScaling::kLlama3;
  throw UserError(concat(where, ": key 'rope_type' is '", type,
                         "'; supported are default, linear, dynamic, yarn and llama3"));
}

std::optional<double> optional_number(const Json& rope, const std::string& key,
                                      const std::string& where) {
  if (!rope.contains(key) || rope.at(key).is_null()) return std::nullopt;
  return json_get<double>(rope, key, where);
}

// transformers takes 0 and null of these for absent.
double number_or(const Json& rope, const std::string& key, double fallback,
                 const std::string& where) {
  const double value = optional_number(rope, key, where).value_or(0);
  return value == 0 ? fallback : value;
}

bool has_value(const Json& config, const std::string& key) {
  return config.contains(key) && !config.at(key).is_null();
}

// The dictionary with the rotary keys. A non-empty `rope_scaling` (transformers 4) comes before
// `rope_parameters`.
Json rope_dictionary(const Json& config, const std::string& where) {
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (!has_value(config, key)) continue;
    GIMBAL_USER_CHECK(config.at(key).is_object(), where, ": key '", key, "' must be an object");
    if (!config.at(key).empty()) return config.at(key);
  }
  return Json::object();
}

}  // namespace

RotarySettings parse_rotary_settings(const Json& config, std::int64_t head_dim,
                                     std::int64_t max_positions, const std::string& where) {
  const Json rope = rope_dictionary(config, where);
  const std::string place = where + ": rope_parameters";
  RotarySettings s;
  s.head_dim = head_dim;
  s.max_positions = max_positions;
  const auto type = json_get_or<std::string>(
      rope, "rope_type", json_get_or<std::string>(rope, "type", "default", place), place);
  s.scaling = scaling_of(type, place);
  s.theta = json_get_or<double>(rope, "rope_theta",
                                json_get_or<double>(config, "rope_theta", 10000.0, where), place);
  GIMBAL_USER_CHECK(s.theta > 0, place, ": key 'rope_theta' must be positive but is ", s.theta);
  for (const Json* holder : {&rope, &config}) {
    const double part = optional_number(*holder, "partial_rotary_factor", place).value_or(1.0);
    GIMBAL_USER_CHECK(part == 1.0, place, ": key 'partial_rotary_factor' is ", part,
                      "; only 1 is supported");
  }
  if (s.scaling == RotaryScaling::kDefault) return s;

  const bool has_old_length =
      s.scaling == RotaryScaling::kYarn || s.scaling == RotaryScaling::kLlama3;
  if (has_old_length)
    s.original_max_positions =
        optional_number(config, "original_max_position_embeddings", where)
            .value_or(optional_number(rope, "original_max_position_embeddings", place)
                          .value_or(static_cast<double>(max_positions)));
  if (s.scaling == RotaryScaling::kYarn && rope.contains("factor") && rope.at("factor").is_null())
    s.factor = static_cast<double>(max_positions) / s.original_max_positions;
  else
    s.factor = json_get<double>(rope, "factor", place);
  GIMBAL_USER_CHECK(s.factor > 0, place, ": key 'factor' must be positive but is ", s.factor);
  if (s.scaling == RotaryScaling::kYarn) {
    s.attention_factor = optional_number(rope, "attention_factor", place);
    s.mscale = optional_number(rope, "mscale", place);
    s.mscale_all_dim = optional_number(rope, "mscale_all_dim", place);
    s.beta_fast = number_or(rope, "beta_fast", 32, place);
    s.beta_slow = number_or(rope, "beta_slow", 1, place);
    s.truncate = json_get_or<bool>(rope, "truncate", true, place);
  }
  if (s.scaling == RotaryScaling::kLlama3) {
    s.low_freq_factor = json_get<double>(rope, "low_freq_factor", place);
    s.high_freq_factor = json_get<double>(rope, "high_freq_factor", place);
    GIMBAL_USER_CHECK(
        s.low_freq_factor > 0 && s.high_freq_factor > s.low_freq_factor, place,
        ": key 'high_freq_factor' must be above low_freq_factor, both positive; they are ",
        s.high_freq_factor, " and ", s.low_freq_factor);
  }
  return s;
}

}  // namespace gimbal
