#include "gimbal/models/internvl/hf_names.h"

#include <array>
#include <utility>

#include "gimbal/models/text/hf_names.h"

namespace gimbal {
namespace {

constexpr std::array<std::pair<const char*, const char*>, 6> kEdgeNames{{
    {"vision.embed.cls_token", "vision_tower.embeddings.cls_token"},
    {"vision.embed.position_embeddings", "vision_tower.embeddings.position_embeddings"},
    {"vision.embed.patch.", "vision_tower.embeddings.patch_embeddings.projection."},
    {"projector.vision_norm.", "vision_tower.layernorm."},
    {"projector.", "multi_modal_projector."},
    {"vision.", "vision_tower.encoder.layer."},
}};

constexpr std::array<std::pair<const char*, const char*>, 3> kVisionLayerParts{{
    {".norm_before.", ".layernorm_before."},
    {".norm_after.", ".layernorm_after."},
    {".attention.o_proj.", ".attention.projection_layer."},
}};

std::string vision_name(const std::string& name) {
  for (const auto& [ours, theirs] : kEdgeNames) {
    if (!name.starts_with(ours)) continue;
    std::string result = theirs + name.substr(std::string(ours).size());
    for (const auto& [our_part, their_part] : kVisionLayerParts) {
      const std::size_t at = result.find(our_part);
      if (at != std::string::npos) result.replace(at, std::string(our_part).size(), their_part);
    }
    return result;
  }
  throw_internal(__FILE__, __LINE__, "name", "no Hugging Face name for " + name);
}

}  // namespace

void add_internvl_names(Model& model) {
  add_text_names(model,
                 {"language_model.model.", "model.language_model.", "language_model.", "model."},
                 {"language_model.lm_head.weight", "lm_head.weight"});
  for (const ParameterPtr& parameter : model.parameters()) {
    if (parameter->name.starts_with("text.")) continue;
    const std::string name = vision_name(parameter->name);
    model.hf_names[parameter->name] = name;
    model.hf_aliases[parameter->name] = {"model." + name};
  }
}

}  // namespace gimbal
