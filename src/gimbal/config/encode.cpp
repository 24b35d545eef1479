// Recipes to JSON and YAML.
#include <cctype>

#include "gimbal/base/error.h"
#include "gimbal/base/json.h"
#include "gimbal/config/enums.h"
#include "gimbal/config/load.h"
#include "gimbal/config/scalar.h"
#include "gimbal/config/visit.h"

namespace gimbal {
namespace {

template <typename T>
OrderedJson encode(const T& value) {
  if constexpr (Visited<T>) {
    OrderedJson object = OrderedJson::object();
    visit(value,
          [&](const char* name, const auto& field, const char*) { object[name] = encode(field); });
    return object;
  } else if constexpr (std::is_enum_v<T>) {
    return enum_name(value);
  } else if constexpr (!kIsScalar<T> && requires { value.front(); }) {
    OrderedJson list = OrderedJson::array();
    for (const auto& item : value) list.push_back(encode(item));
    return list;
  } else {
    return value;  // numbers, texts, maps of numbers
  }
}

// The entries of `changed` that differ from `base`; lists and maps that the user names differ as a
// whole.
OrderedJson difference(const OrderedJson& base, const OrderedJson& changed, int depth) {
  OrderedJson out = OrderedJson::object();
  for (const auto& [key, value] : changed.items()) {
    if (value == base[key]) continue;
    const bool section = depth == 0 && value.is_object();
    out[key] = section ? difference(base[key], value, depth + 1) : value;
  }
  return out;
}

// Plain where YAML reads the same text back, else in double quotes.
std::string yaml_text(const std::string& text) {
  bool plain = !text.empty() && text != "null" && text != "Null" && text != "NULL" && text != "-";
  for (std::size_t i = 0; i < text.size() && plain; ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    plain = std::isalnum(c) != 0 || c == '_' || c == '.' || c == '/' || (i > 0 && c == '-');
  }
  if (plain && text.find("...") != 0) return text;
  return OrderedJson(text).dump();
}

std::string yaml_inline(const OrderedJson& value) {
  if (value.is_string()) return yaml_text(value.get<std::string>());
  if (value.is_array()) {
    std::string list;
    for (const auto& item : value) list += (list.empty() ? "" : ", ") + yaml_inline(item);
    return "[" + list + "]";
  }
  return value.is_object() ? "{}" : value.dump();
}

void write_yaml(const OrderedJson& object, const std::string& indent, std::string& out) {
  for (const auto& [key, value] : object.items()) {
    const std::string line = indent + yaml_text(key) + ":";
    if (value.is_object() && !value.empty()) {
      out += line + "\n";
      write_yaml(value, indent + "  ", out);
    } else if (value.is_array() && !value.empty() && value.front().is_object()) {
      out += line + "\n";
      for (const auto& item : value) {
        // The first key of an item stands after the dash.
        std::string block;
        write_yaml(item, indent + "    ", block);
        out += indent + "  - " + block.substr(indent.size() + 4);
      }
    } else {
      out += line + " " + yaml_inline(value) + "\n";
    }
  }
}

}  // namespace

std::string to_json(const Recipe& recipe) { return encode(recipe).dump(2); }

std::string to_yaml(const std::vector<StageRecipe>& stages) {
  GIMBAL_CHECK(!stages.empty(), "a recipe has at least one stage");
  const OrderedJson base = encode(stages.front().recipe);
  OrderedJson all = base;
  if (stages.size() > 1 || stages.front().name != stages.front().recipe.name) {
    // The first stage is the base; every stage lists what it has otherwise.
    all["stages"] = OrderedJson::array();
    for (const StageRecipe& stage : stages) {
      OrderedJson entry = {{"name", stage.name}};
      entry.update(difference(base, encode(stage.recipe), 0));
      entry["name"] = stage.name;
      all["stages"].push_back(std::move(entry));
    }
  }
  std::string out;
  write_yaml(all, "", out);
  return out;
}

}  // namespace gimbal
