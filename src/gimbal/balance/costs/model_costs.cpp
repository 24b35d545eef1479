#include <algorithm>
#include <array>
#include <cmath>
#include <optional>

#include "gimbal/balance/costs/cost_file.h"
#include "gimbal/base/json.h"

namespace gimbal {
namespace {

double read_size(const Json& config, const char* key, double fallback, const std::string& where) {
  const auto it = config.find(key);
  if (it == config.end() || it->is_null()) return fallback;
  GIMBAL_USER_CHECK(it->is_number_integer() && it->get<std::int64_t>() >= 1, where, ": key '", key,
                    "' is ", it->dump(), "; it must be a whole number of at least 1");
  return static_cast<double>(it->get<std::int64_t>());
}

// A number, or two equal ones.
double read_square(const Json& config, const char* key, double fallback, const std::string& where) {
  const auto it = config.find(key);
  if (it == config.end() || !it->is_array()) return read_size(config, key, fallback, where);
  GIMBAL_USER_CHECK(it->size() == 2 && it->at(0) == it->at(1), where, ": key '", key, "' is ",
                    it->dump(), "; it must be one number or two equal ones");
  return read_size(Json{{key, it->at(0)}}, key, fallback, where);
}

const Json& read_model_part(const Json& config, const char* key, const std::string& where) {
  const auto it = config.find(key);
  GIMBAL_USER_CHECK(it != config.end() && it->is_object(), where, ": key '", key,
                    "' is missing or no object");
  return *it;
}

struct TextCost {
  double width;
  StreamCost cost;
};

bool is_text_type(const std::string& type) {
  return type == "qwen2" || type == "qwen3" || type == "llama" || type == "internlm2";
}

TextCost text_cost(const Json& config, const std::string& type, double head_share,
                   const std::string& where) {
  GIMBAL_USER_CHECK(is_text_type(type), where, ": key 'model_type' is '", type,
                    "'; the costs of qwen2, qwen3, llama and internlm2 text models are known. Give "
                    "the cost of every stream instead");
  // Defaults of transformers' configuration classes.
  const bool qwen = type == "qwen2" || type == "qwen3";
  const double d = read_size(config, "hidden_size", 4096, where);
  const double f = read_size(config, "intermediate_size", qwen ? 22016 : 11008, where);
  const double layers = read_size(config, "num_hidden_layers", 32, where);
  const double vocabulary = read_size(config, "vocab_size",
                                      qwen              ? 151936
                                      : type == "llama" ? 32000
                                                        : 103168,
                                      where);
  const double heads = read_size(config, "num_attention_heads", 32, where);
  const bool null_kv =
      config.contains("num_key_value_heads") && config.at("num_key_value_heads").is_null();
  const double kv_heads =
      read_size(config, "num_key_value_heads", qwen && !null_kv ? 32 : heads, where);
  const double h = read_size(config, "head_dim", type == "qwen3" ? 128 : d / heads, where);
  const double products = 2 * d * heads * h + 2 * d * kv_heads * h + 3 * d * f;
  return {d, {layers * 2 * products + head_share * 2 * d * vocabulary, layers * 2 * heads * h}};
}

struct VisionCost {
  double per_tile;
  double patches;
};

VisionCost vision_cost(const Json& config, const Json& whole, double text_width,
                       const std::string& where) {
  const double d = read_size(config, "hidden_size", 1024, where);
  const double f = read_size(config, "intermediate_size", 4096, where);
  const double layers = read_size(config, "num_hidden_layers", 24, where);
  const double channels = read_size(config, "num_channels", 3, where);
  // internvl_chat: the outer key wins.
  const double pixels =
      read_size(whole, "force_image_size", read_square(config, "image_size", 448, where), where);
  const double patch = read_square(config, "patch_size", 14, where);
  const double side = std::floor(pixels / patch);
  GIMBAL_USER_CHECK(side >= 1, where, ": image_size ", pixels, " is below patch_size ", patch);
  const auto ratio = json_get_or<double>(whole, "downsample_ratio", 0.5, where);
  GIMBAL_USER_CHECK(ratio > 0 && ratio <= 1, where, ": key 'downsample_ratio' is ", ratio,
                    "; it must be above 0 and at most 1");
  const double patches = side * side, rows = patches + 1;
  const double embed = 2 * patches * channels * patch * patch * d;
  const double tower = layers * (2 * rows * (4 * d * d + 2 * d * f) + 4 * rows * rows * d);
  const double joined = d / (ratio * ratio), text_rows = patches * ratio * ratio;
  const double projector = 2 * text_rows * (joined * text_width + text_width * text_width);
  return {embed + tower + projector, patches};
}

// internvl_chat names its text part's type in the architecture, where model_type may be missing.
std::string chat_text_type(const Json& llm, const std::string& where) {
  const auto type = json_get_or<std::string>(llm, "model_type", "", where);
  if (!type.empty()) return type;
  const auto names = json_get_or<std::vector<std::string>>(llm, "architectures", {}, where);
  constexpr std::array<std::pair<const char*, const char*>, 4> kTypes{
      {{"Qwen2ForCausalLM", "qwen2"},
       {"Qwen3ForCausalLM", "qwen3"},
       {"LlamaForCausalLM", "llama"},
       {"InternLM2ForCausalLM", "internlm2"}}};
  for (const std::string& name : names)
    for (const auto& [architecture, known] : kTypes)
      if (name == architecture) return known;
  return names.empty() ? "" : names.front();
}

}  // namespace

std::vector<StreamCost> model_costs(const std::filesystem::path& config,
                                    std::span<const std::string> streams, double head_share) {
  GIMBAL_USER_CHECK(head_share >= 0 && head_share <= 1,
                    "balance: the share of rows with a "
                    "vocabulary projection is ",
                    head_share, "; it must be from 0 to 1");
  const auto file = std::filesystem::is_directory(config) ? config / "config.json" : config;
  const Json model = read_json(file);
  const std::string where = file.string();
  GIMBAL_USER_CHECK(model.is_object(), where, ": a model configuration is an object");
  const auto type = json_get<std::string>(model, "model_type", where);
  const bool chat = type == "internvl_chat";
  const bool has_vision = chat || type == "internvl";
  TextCost text{};
  std::optional<VisionCost> vision;
  if (has_vision) {
    const char* key = chat ? "llm_config" : "text_config";
    const Json& part = read_model_part(model, key, where);
    const std::string place = where + ": " + key;
    const std::string text_type =
        chat ? chat_text_type(part, place)
             : json_get_or<std::string>(part, "model_type", "qwen2", place);
    text = text_cost(part, text_type, head_share, place);
    vision = vision_cost(read_model_part(model, "vision_config", where), model, text.width,
                         where + ": vision_config");
  } else {
    text = text_cost(model, type, head_share, where);
  }
  std::vector<StreamCost> costs;
  for (const std::string& name : streams) {
    if (name == "tokens" || name == "text") {
      costs.push_back(text.cost);
      continue;
    }
    const bool tile = name == "vision" || name == "tiles" || name == "images";
    GIMBAL_USER_CHECK(
        tile || name == "patches", "balance: the cost of the stream '", name,
        "' does not follow from ", where,
        " (known are tokens, text, vision, tiles, images and patches); give the costs "
        "of all streams, per row and per pair, or a cost file");
    GIMBAL_USER_CHECK(vision.has_value(), where, ": the model type '", type,
                      "' has no vision part, but the data have the stream '", name,
                      "'; name a model that has one or give the costs of all streams");
    costs.push_back({tile ? vision->per_tile : vision->per_tile / vision->patches, 0.0});
  }
  return costs;
}

}  // namespace gimbal
