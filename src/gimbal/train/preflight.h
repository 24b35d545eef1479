// What can be wrong with a stage, found before the first step of the first stage.
#pragma once

#include <vector>

#include "gimbal/config/recipe.h"
#include "gimbal/train/build.h"
#include "gimbal/train/layout/run_layout.h"

namespace gimbal {

/// Opens the stage's model configuration and datasets and checks them against each other and the
/// recipe, without reading weights. Throws UserError for the first problem.
void check_stage(const Recipe& recipe, int world_size);

/// The folder's model with the recipe's parts frozen. Throws UserError when nothing is left to
/// train.
Model model_for_training(const Recipe& recipe, const Ports& ports = local_ports());

/// How the recipe's model and data are spread over `world_size` processes. Throws UserError as
/// make_run_layout does.
RunLayout layout_for_training(const Recipe& recipe, const Dataset& dataset, const Model& model,
                              int world_size);

/// Per block: none of its own parameters is trainable.
std::vector<bool> frozen_blocks(const Model& model);

}  // namespace gimbal
