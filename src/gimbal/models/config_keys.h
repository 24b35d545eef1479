// Reading of config.json keys with the checks that all model families share.
#pragma once

#include <cstdint>
#include <string>

#include "gimbal/base/json.h"
#include "gimbal/nn/ops/activation.h"

namespace gimbal {

/// A count that must be at least 1; `fallback` when the key is absent or null.
std::int64_t read_count(const Json& config, const std::string& key, std::int64_t fallback,
                        const std::string& where);

/// Throws UserError when a dropout probability is not 0: dropout is not supported, and ignoring it
/// would train another model.
void refuse_dropout(const Json& config, const std::string& key, const std::string& where);

/// Throws UserError for an activation that is not known, listing the known ones.
Activation read_activation(const Json& config, const std::string& key, const std::string& fallback,
                           const std::string& where);

/// Standard deviation of new weights; 0 and null mean 0.02, as in transformers.
double read_initializer_range(const Json& config, const std::string& where);

}  // namespace gimbal
