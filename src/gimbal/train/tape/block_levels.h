// Which recompute level each block of a run has.
#pragma once

#include <string>
#include <vector>

#include "gimbal/arch/model_desc.h"
#include "gimbal/config/recipe.h"

namespace gimbal {

/// What a block does when `level` is asked for: a level that it does not have counts as full, and
/// as keep where nothing is worth recomputing (embeddings, head).
Recompute level_of_block(const BlockDesc& block, Recompute level);

/// The level of each block, from model.recompute, model.recompute_blocks and
/// model.recompute_groups. Throws UserError for a pattern that matches no block.
std::vector<Recompute> block_levels(const ModelConfig& config, const ModelDesc& model);

/// The key that decides the block's level: model.recompute_groups when a group matches the block,
/// model.recompute_blocks when that leaves it out, else model.recompute.
std::string recompute_key(const ModelConfig& config, const BlockDesc& block);

}  // namespace gimbal
