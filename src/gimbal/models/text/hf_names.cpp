#include "gimbal/models/text/hf_names.h"

#include <array>
#include <utility>

namespace gimbal {
namespace {

constexpr std::array<std::pair<const char*, const char*>, 4> kTextParts{{
    {".input_norm.", ".input_layernorm."},
    {".post_attention_norm.", ".post_attention_layernorm."},
    {".attention.", ".self_attn."},
    {".mlp.", ".mlp."},
}};

// "text.3.attention.q_proj.weight" -> "layers.3.self_attn.q_proj.weight".
std::string backbone_name(const std::string& name) {
  if (name == "text.embed.weight") return "embed_tokens.weight";
  if (name == "text.norm.weight") return "norm.weight";
  const std::string rest = name.substr(std::string("text").size());
  for (const auto& [ours, theirs] : kTextParts) {
    const std::size_t at = rest.find(ours);
    if (at != std::string::npos)
      return "layers" + rest.substr(0, at) + theirs + rest.substr(at + std::string(ours).size());
  }
  throw_internal(__FILE__, __LINE__, "name", "no Hugging Face name for " + name);
}

}  // namespace

void add_text_names(Model& model, const std::vector<std::string>& backbones,
                    const std::vector<std::string>& heads) {
  for (const ParameterPtr& parameter : model.parameters()) {
    const std::string& name = parameter->name;
    if (!name.starts_with("text.")) continue;
    std::vector<std::string> names = heads;
    if (name != "text.head.weight") {
      names.clear();
      for (const std::string& prefix : backbones) names.push_back(prefix + backbone_name(name));
    }
    model.hf_names[name] = names.front();
    model.hf_aliases[name].assign(names.begin() + 1, names.end());
  }
}

}  // namespace gimbal
