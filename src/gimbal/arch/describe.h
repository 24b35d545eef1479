// From a Hugging Face config.json to a model as data. No weights are read.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "gimbal/arch/model_desc.h"
#include "gimbal/base/json.h"

namespace gimbal {

/// Describes the model of `config`. Absent keys have transformers' defaults. Throws UserError for
/// an unknown model_type (lists the known ones), a missing or wrong field, and settings that change
/// parameters or work and are not known, naming the key and `where`.
ModelDesc describe_model(const Json& config, const std::string& where);

/// `path`: a config.json or the folder that holds one.
ModelDesc describe_model_file(const std::filesystem::path& path);

/// Values of model_type that describe_model knows.
std::vector<std::string> known_model_types();

}  // namespace gimbal
