// Names of InternVL's vision and projector parameters in Hugging Face folders.
#pragma once

#include "gimbal/models/model.h"

namespace gimbal {

/// Fills hf_names and hf_aliases of all parameters. Written: the layout that transformers saves
/// (`vision_tower.`, `multi_modal_projector.`, `language_model.model.`). Read besides: the layout
/// of its modules (`model.vision_tower.`, ...).
void add_internvl_names(Model& model);

}  // namespace gimbal
