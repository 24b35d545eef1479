// From YAML and command-line overrides to checked recipes.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "gimbal/config/recipe.h"

namespace gimbal {

/// The stages of the recipe file (one when it has no `stages:` list), each with the overrides
/// (`train.max_steps=10`, or `stages.align.optimizer.lr=1e-3` for one stage) applied last. Relative
/// paths in the file stay as written. `required`: dotted keys that must have a value, such as
/// "data.train". An empty path means the defaults with the overrides. Throws one UserError that
/// lists all problems: file, line, key, the nearest valid key, the expected type.
std::vector<StageRecipe> load_recipe(const std::filesystem::path& path,
                                     const std::vector<std::string>& overrides,
                                     const std::vector<std::string>& required = {});

/// All problems of the values (ranges, combinations), as `key: problem` lines; empty when there are
/// none.
std::vector<std::string> validate(const Recipe& recipe);

/// The complete recipe as YAML, defaults included; load_recipe reads it back to the same values.
std::string to_yaml(const std::vector<StageRecipe>& stages);

/// One recipe as JSON text with the same keys (for the Python commands).
std::string to_json(const Recipe& recipe);

/// The table of all options: key, type, default, help. Generated from visit.h.
std::string describe_options();

}  // namespace gimbal
