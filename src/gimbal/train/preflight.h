// What can be wrong with a stage, found before the first step of the first stage.
#pragma once

#include <vector>

#include "gimbal/config/recipe.h"
#include "gimbal/train/build.h"

namespace gimbal {

/// Opens the stage's model configuration and datasets and checks them against each other and the
/// recipe, without reading weights. Throws UserError for the first problem.
void check_stage(const Recipe& recipe);

/// The folder's model with the recipe's parts frozen. Throws UserError when nothing is left to
/// train.
Model model_for_training(const Recipe& recipe);

/// Per block: none of its own parameters is trainable.
std::vector<bool> frozen_blocks(const Model& model);

}  // namespace gimbal
