// Names of text parameters in Hugging Face folders.
#pragma once

#include <string>
#include <vector>

#include "gimbal/models/model.h"

namespace gimbal {

/// Fills hf_names and hf_aliases of the model's text parameters. `backbones` are the prefixes under
/// which the backbone's tensors are found
/// ("model."), `heads` the full names of the output weight; the first of each is the one that is
/// written.
void add_text_names(Model& model, const std::vector<std::string>& backbones,
                    const std::vector<std::string>& heads);

}  // namespace gimbal
