// Dotted overrides from the command line: `train.max_steps=10`, `stages.align.optimizer.lr=1e-3`.
#pragma once

#include <string>
#include <vector>

#include "gimbal/config/problems.h"
#include "gimbal/config/reader.h"
#include "gimbal/config/recipe.h"

namespace gimbal {

/// Sets the value in the stages that the key means. The value of a text option is taken as it is;
/// lists and maps are written as in YAML, `model.freeze=[vision.*]`; `data.weights.NAME=2` sets one
/// entry. `places` has one entry per stage.
void apply_override(const std::string& argument, std::vector<StageRecipe>& stages,
                    std::vector<Places>& places, Problems& problems);

}  // namespace gimbal
