#include "gimbal/arch/describe.h"
#include "gimbal/models/internvl/build.h"
#include "gimbal/models/model.h"
#include "gimbal/models/text/build.h"

namespace gimbal {
namespace {

// The blocks that run and the blocks that are priced, cut and named in plans are the same.
void check_same_blocks(const Model& model) {
  GIMBAL_CHECK_EQ(model.blocks.size(), model.desc.blocks.size());
  for (std::size_t i = 0; i < model.blocks.size(); ++i) {
    const Block& block = *model.blocks[i];
    const BlockDesc& described = model.desc.blocks[i];
    std::int64_t num_parameters = 0;
    for (const ParameterPtr& parameter : block.parameters())
      num_parameters += parameter->full_numel();
    GIMBAL_CHECK_EQ(block.name(), described.name);
    GIMBAL_CHECK_EQ(num_parameters, described.num_parameters, "Parameters of block ", block.name());
  }
}

Model build_blocks(const Json& config, const std::string& where, const Ports& ports) {
  const auto type = json_get<std::string>(config, "model_type", where);
  if (is_text_family(type)) return make_text_model(config, where, ports);
  if (type == "internvl") return make_internvl_model(config, where, ports);
  throw UserError(concat(where, ": key 'model_type' is '", type,
                         "'; known model types are internvl, qwen2, qwen3 and llama"));
}

}  // namespace

Model make_model(const Json& config, const std::string& where, const Ports& ports) {
  GIMBAL_USER_CHECK(config.is_object(), where, ": a model configuration must be a JSON object");
  Model model = build_blocks(config, where, ports);
  apply_layout(model.layout, model.parameters(), *ports.linear);
  model.desc = describe_model(config, where);
  check_same_blocks(model);
  return model;
}

}  // namespace gimbal
