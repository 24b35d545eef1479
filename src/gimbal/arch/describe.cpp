#include "gimbal/arch/describe.h"

#include <array>
#include <utility>

#include "gimbal/arch/config_reader.h"
#include "gimbal/arch/families/internvl.h"
#include "gimbal/arch/families/llava.h"
#include "gimbal/arch/families/qwen_vl.h"
#include "gimbal/arch/families/text.h"

namespace gimbal {
namespace {

using DescribeFamily = void (*)(const ConfigReader& config, ModelDesc& desc);

constexpr std::array<std::pair<const char*, DescribeFamily>, 6> kVisionFamilies{
    {{"internvl", describe_internvl},
     {"internvl_chat", describe_internvl_chat},
     {"llava", describe_llava},
     {"qwen2_vl", describe_qwen2_vl},
     {"qwen2_5_vl", describe_qwen2_5_vl},
     {"qwen3_vl", describe_qwen3_vl}}};

// Names and order of blocks, parts and classes hold for everything that reads a ModelDesc.
void check_description(const ModelDesc& desc) {
  for (const BlockDesc& block : desc.blocks) {
    GIMBAL_CHECK(!block.name.empty() && !block.cost_class.empty(), "block without name or class");
    GIMBAL_CHECK(block.parts.size() == 1 || block.parts.size() == 2, "block ", block.name);
    // Experts, what tp leaves whole, and what it may leave whole have no parameter in common.
    GIMBAL_CHECK_LE(
        block.num_expert_parameters + block.num_uncut_parameters + block.num_key_value_parameters,
        block.num_parameters, "Block ", block.name);
    for (const PartDesc& part : block.parts)
      GIMBAL_CHECK_LE(part.input_values_per_row, part.saved_values_per_row, "Block ", block.name);
  }
}

}  // namespace

std::vector<std::string> known_model_types() {
  std::vector<std::string> types = text_families();
  for (const auto& [type, describe] : kVisionFamilies) types.emplace_back(type);
  return types;
}

ModelDesc describe_model(const Json& config, const std::string& where) {
  const ConfigReader reader(config, where);
  if (!reader.has("model_type"))
    reader.fail("model_type", "is missing: it names the family of the model");
  ModelDesc desc;
  desc.type = reader.word("model_type", "");
  for (const auto& [type, describe] : kVisionFamilies) {
    if (desc.type != type) continue;
    describe(reader, desc);
    check_description(desc);
    return desc;
  }
  std::string known;
  bool is_text = false;
  for (const std::string& type : known_model_types()) {
    known += (known.empty() ? "" : ", ") + type;
    is_text = is_text || type == desc.type;
  }
  if (!is_text) reader.fail("model_type", "is '" + desc.type + "'; known model types are " + known);
  add_text_arch(read_text_arch(reader, desc.type), desc);
  check_description(desc);
  return desc;
}

ModelDesc describe_model_file(const std::filesystem::path& path) {
  const auto file = std::filesystem::is_directory(path) ? path / "config.json" : path;
  return describe_model(read_json(file), file.string());
}

}  // namespace gimbal
