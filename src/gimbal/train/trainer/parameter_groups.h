// Optimizer groups: which parameters share a learning-rate scale and a weight decay.
#pragma once

#include <string>
#include <vector>

#include "gimbal/config/recipe.h"
#include "gimbal/nn/parameter.h"
#include "gimbal/optim/adamw.h"

namespace gimbal {

struct ParameterGroup {
  double lr_scale = 1.0;
  double weight_decay = 0.0;
};

/// The distinct groups and the group of every parameter.
class ParameterGroups {
 public:
  /// The first entry of `config.groups` whose pattern matches a name decides; one-dimensional
  /// parameters (norms, biases, layer scales) have no decay unless `decay_norms_and_biases`. Throws
  /// UserError for a pattern that matches no parameter.
  ParameterGroups(const OptimizerConfig& config, const std::vector<ParameterPtr>& parameters);

  int group_of(const Parameter& parameter) const;
  const std::vector<ParameterGroup>& groups() const { return groups_; }
  /// Rates of each group when the base learning rate is `lr`.
  std::vector<GroupRates> rates(double lr) const;

 private:
  ParameterGroup resolve(const Parameter& parameter) const;

  OptimizerConfig config_;
  std::vector<ParameterGroup> groups_;
};

}  // namespace gimbal
