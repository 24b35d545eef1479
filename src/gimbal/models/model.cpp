#include "gimbal/models/model.h"

#include "gimbal/base/error.h"
#include "gimbal/base/name_pattern.h"

namespace gimbal {

std::vector<ParameterPtr> Model::parameters() const {
  std::vector<ParameterPtr> all;
  for (const auto& block : blocks)
    all.insert(all.end(), block->parameters().begin(), block->parameters().end());
  return all;
}

std::int64_t Model::num_parameters() const {
  std::int64_t sum = 0;
  for (const ParameterPtr& parameter : parameters()) sum += parameter->full_numel();
  return sum;
}

void freeze_parameters(Model& model, const std::vector<std::string>& patterns) {
  for (const std::string& pattern : patterns) {
    bool used = false;
    for (const auto& block : model.blocks)
      for (const ParameterPtr& parameter : block->parameters()) {
        if (!matches_pattern(pattern, parameter->name) && !matches_pattern(pattern, block->name()))
          continue;
        parameter->trainable = false;
        used = true;
      }
    GIMBAL_USER_CHECK(used, "model.freeze: pattern '", pattern,
                      "' matches no parameter and no block of the ", model.type,
                      " model; its blocks are called like ", model.blocks.front()->name(), ", ",
                      model.blocks.back()->name(), " ('*' stands for any characters)");
  }
}

}  // namespace gimbal
