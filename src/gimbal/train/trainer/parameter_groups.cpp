#include "gimbal/train/trainer/parameter_groups.h"

#include <algorithm>

#include "gimbal/base/error.h"
#include "gimbal/base/name_pattern.h"

namespace gimbal {

ParameterGroups::ParameterGroups(const OptimizerConfig& config,
                                 const std::vector<ParameterPtr>& parameters)
    : config_(config) {
  for (const ParameterGroupConfig& entry : config.groups) {
    const bool used =
        std::any_of(parameters.begin(), parameters.end(), [&](const ParameterPtr& parameter) {
          return matches_pattern(entry.pattern, parameter->name);
        });
    GIMBAL_USER_CHECK(
        used, "optimizer.groups: pattern '", entry.pattern,
        "' matches no parameter of the model. Patterns are compared with whole names such as '",
        parameters.empty() ? std::string("text.embed.weight") : parameters.front()->name,
        "'; use * for any characters, e.g. 'vision.*'.");
  }
  for (const ParameterPtr& parameter : parameters) {
    const ParameterGroup group = resolve(*parameter);
    const bool known =
        std::any_of(groups_.begin(), groups_.end(), [&](const ParameterGroup& other) {
          return other.lr_scale == group.lr_scale && other.weight_decay == group.weight_decay;
        });
    if (!known) groups_.push_back(group);
  }
}

ParameterGroup ParameterGroups::resolve(const Parameter& parameter) const {
  ParameterGroup group{1.0, config_.weight_decay};
  for (const ParameterGroupConfig& entry : config_.groups) {
    if (!matches_pattern(entry.pattern, parameter.name)) continue;
    group.lr_scale = entry.lr_scale;
    if (entry.weight_decay >= 0) group.weight_decay = entry.weight_decay;
    break;
  }
  if (parameter.shape.size() <= 1 && !config_.decay_norms_and_biases) group.weight_decay = 0;
  return group;
}

int ParameterGroups::group_of(const Parameter& parameter) const {
  const ParameterGroup group = resolve(parameter);
  for (std::size_t i = 0; i < groups_.size(); ++i) {
    if (groups_[i].lr_scale == group.lr_scale && groups_[i].weight_decay == group.weight_decay)
      return static_cast<int>(i);
  }
  throw InternalError("no optimizer group for parameter " + parameter.name);
}

std::vector<GroupRates> ParameterGroups::rates(double lr) const {
  std::vector<GroupRates> rates;
  for (const ParameterGroup& group : groups_)
    rates.push_back({lr * group.lr_scale, group.weight_decay});
  return rates;
}

}  // namespace gimbal
