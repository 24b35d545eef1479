#include "gimbal/models/internvl/build.h"

#include "gimbal/models/internvl/blocks.h"
#include "gimbal/models/internvl/hf_names.h"
#include "gimbal/models/internvl/layout.h"
#include "gimbal/models/internvl/vision_embed.h"
#include "gimbal/models/mesh_fit.h"
#include "gimbal/models/text/build.h"

namespace gimbal {

Model make_internvl_model(const Json& config, const std::string& where, const Ports& ports) {
  const InternVlConfig internvl = parse_internvl_config(config, where);
  check_vision_heads(internvl.vision.num_heads, ports);
  Model model;
  model.type = "internvl";
  model.config = config;
  model.blocks.push_back(std::make_unique<VisionEmbed>(internvl.vision, ports));
  for (std::int64_t layer = 0; layer < internvl.vision.num_layers; ++layer)
    model.blocks.push_back(std::make_unique<VisionLayer>(internvl.vision, layer, ports));
  model.blocks.push_back(std::make_unique<Projector>(internvl, ports));
  add_text_blocks(model, internvl.text, internvl.tokens_per_tile(), ports);
  model.layout = internvl_layout(internvl, tensor_parts(ports));
  model.image_token_id = internvl.image_token_id;
  model.image_seq_length = internvl.tokens_per_tile();
  add_internvl_names(model);
  return model;
}

}  // namespace gimbal
