#include "apps/cli/plan/freeze.h"

#include <algorithm>

#include "gimbal/base/error.h"
#include "gimbal/base/name_pattern.h"

namespace gimbal::cli {
namespace {

bool names_block(const std::string& pattern, const std::string& block) {
  if (matches_pattern(pattern, block)) return true;
  return pattern.ends_with(".*") && matches_pattern(pattern.substr(0, pattern.size() - 2), block);
}

}  // namespace

std::vector<bool> frozen_blocks(const ModelDesc& model, const std::vector<std::string>& patterns,
                                const std::string& option) {
  if (patterns.empty()) return {};
  std::vector<bool> frozen(model.blocks.size());
  for (const std::string& pattern : patterns) {
    bool used = false;
    for (std::size_t i = 0; i < model.blocks.size(); ++i) {
      if (!names_block(pattern, model.blocks[i].name)) continue;
      frozen[i] = used = true;
    }
    GIMBAL_USER_CHECK(used, option, ": pattern '", pattern, "' names no whole block of the ",
                      model.type, " model; a plan freezes whole blocks, which are called like ",
                      model.blocks.front().name, ", ", model.blocks.back().name,
                      " ('*' stands for any characters)");
  }
  GIMBAL_USER_CHECK(std::find(frozen.begin(), frozen.end(), false) != frozen.end(), option,
                    " freezes every block of the model: nothing is left to train");
  return frozen;
}

}  // namespace gimbal::cli
