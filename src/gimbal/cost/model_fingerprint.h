// Which model a profile or a plan was made for.
#pragma once

#include <string>

#include "gimbal/arch/model_desc.h"

namespace gimbal {

/// SHA-256 (64 hexadecimal digits) of the model's type and of its blocks' names, classes,
/// parameters, work and activations: equal for models that cost the same block by block.
std::string model_fingerprint(const ModelDesc& model);

}  // namespace gimbal
