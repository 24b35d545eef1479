#include "gimbal/train/tape/block_levels.h"

#include <algorithm>
#include <string>

#include "gimbal/base/error.h"
#include "gimbal/base/name_pattern.h"
#include "gimbal/nn/parameter.h"

namespace gimbal {
namespace {

void check_block_pattern(const ModelDesc& model, const std::string& key,
                         const std::string& pattern) {
  const bool used = std::ranges::any_of(
      model.blocks, [&](const BlockDesc& block) { return matches_pattern(pattern, block.name); });
  GIMBAL_USER_CHECK(used, key, ": pattern '", pattern,
                    "' matches no block of the model; its blocks are called like ",
                    model.blocks.front().name, ", ", model.blocks.back().name);
}

struct AskedLevel {
  Recompute level;
  const char* key;  // that decides it
};

/// What the recipe asks for.
AskedLevel asked_level(const ModelConfig& config, const std::string& block) {
  for (const RecomputeGroupConfig& group : config.recompute_groups) {
    if (matches_pattern(group.blocks, block)) return {group.level, "model.recompute_groups"};
  }
  const bool chosen = config.recompute_blocks.empty() ||
                      std::ranges::any_of(config.recompute_blocks, [&](const std::string& pattern) {
                        return matches_pattern(pattern, block);
                      });
  if (chosen) return {config.recompute, "model.recompute"};
  return {Recompute::kKeep, "model.recompute_blocks"};
}

}  // namespace

Recompute level_of_block(const BlockDesc& block, Recompute level) {
  const std::vector<Recompute> known = recompute_levels(block);
  const auto has = [&](Recompute wanted) {
    return std::ranges::find(known, wanted) != known.end();
  };
  if (has(level)) return level;
  return has(Recompute::kFull) ? Recompute::kFull : Recompute::kKeep;
}

std::vector<Recompute> block_levels(const ModelConfig& config, const ModelDesc& model) {
  for (const std::string& pattern : config.recompute_blocks)
    check_block_pattern(model, "model.recompute_blocks", pattern);
  for (const RecomputeGroupConfig& group : config.recompute_groups)
    check_block_pattern(model, "model.recompute_groups", group.blocks);
  std::vector<Recompute> levels;
  for (const BlockDesc& block : model.blocks)
    levels.push_back(level_of_block(block, asked_level(config, block.name).level));
  return levels;
}

std::string recompute_key(const ModelConfig& config, const BlockDesc& block) {
  return asked_level(config, block.name).key;
}

}  // namespace gimbal
