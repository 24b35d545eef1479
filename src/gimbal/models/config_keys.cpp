#include "gimbal/models/config_keys.h"

namespace gimbal {

std::int64_t read_count(const Json& config, const std::string& key, std::int64_t fallback,
                        const std::string& where) {
  const auto value = json_get_or<std::int64_t>(config, key, fallback, where);
  GIMBAL_USER_CHECK(value >= 1, where, ": key '", key, "' must be at least 1 but is ", value);
  return value;
}

void refuse_dropout(const Json& config, const std::string& key, const std::string& where) {
  const auto value = json_get_or<double>(config, key, 0.0, where);
  GIMBAL_USER_CHECK(value == 0.0, where, ": key '", key, "' is ", value,
                    " but dropout is not supported; set it to 0");
}

Activation read_activation(const Json& config, const std::string& key, const std::string& fallback,
                           const std::string& where) {
  const auto name = json_get_or<std::string>(config, key, fallback, where);
  const auto activation = find_activation(name);
  GIMBAL_USER_CHECK(activation.has_value(), where, ": key '", key, "' names the activation '", name,
                    "', which is not supported; known: ", activation_names());
  return *activation;
}

double read_initializer_range(const Json& config, const std::string& where) {
  const auto value = json_get_or<double>(config, "initializer_range", 0.02, where);
  GIMBAL_USER_CHECK(value >= 0.0, where, ": key 'initializer_range' must not be negative but is ",
                    value);
  return value == 0.0 ? 0.02 : value;
}

}  // namespace gimbal
