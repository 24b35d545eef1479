#include "gimbal/config/load.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <utility>

#include "gimbal/base/error.h"
#include "gimbal/base/file.h"
#include "gimbal/config/override.h"
#include "gimbal/config/reader.h"

namespace gimbal {
namespace {

YAML::Node parse_file(const std::string& file) {
  const std::string text = read_file(file);
  if (const auto at = find_non_utf8(text)) {
    const auto line =
        1 + std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(*at), '\n');
    throw UserError(concat(file, ":", line, ": is not UTF-8 text"));
  }
  try {
    const std::vector<YAML::Node> documents = YAML::LoadAll(text);
    GIMBAL_USER_CHECK(documents.size() <= 1, file, ": holds ", documents.size(),
                      " YAML documents; a recipe is one");
    return documents.empty() ? YAML::Node() : documents.front();
  } catch (const YAML::Exception& error) {
    throw UserError(concat(file, ":", error.mark.line + 1, ":", error.mark.column + 1,
                           ": is not valid YAML: ", error.msg));
  }
}

bool is_stage_name(const std::string& name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '_' || c == '-';
  });
}

// The state of one load: the stages so far and where their values came from.
class Loader {
 public:
  explicit Loader(std::string file) : file_(std::move(file)) {}

  std::vector<StageRecipe> load(const std::vector<std::string>& overrides,
                                const std::vector<std::string>& required) {
    const YAML::Node root = file_.empty() ? YAML::Node() : parse_file(file_);
    Recipe base;
    NodeReader(file_, true, "", problems_, base_places_).read_struct(root, "", base, {"stages"});
    const YAML::Node list = root.IsMap() ? root["stages"] : YAML::Node(YAML::NodeType::Undefined);
    if (list.IsDefined()) {
      read_stages(list, base);
    } else {
      stages_.push_back({base.name, base});
      places_.push_back(base_places_);
    }
    for (const std::string& text : overrides) apply_override(text, stages_, places_, problems_);
    if (!list.IsDefined()) stages_.front().name = stages_.front().recipe.name;
    for (std::size_t i = 0; i < stages_.size(); ++i) check_stage(i, required);
    problems_.throw_if_any();
    for (std::size_t i = 0; i < stages_.size(); ++i) stages_[i].given = places_[i];
    return std::move(stages_);
  }

 private:
  void read_stages(const YAML::Node& list, const Recipe& base) {
    NodeReader at_top(file_, true, "", problems_, base_places_);
    if (!list.IsSequence() || list.size() == 0) {
      return at_top.problem(list, "stages",
                            "expects a list of stages, each with a name, not " +
                                (list.IsSequence() ? "an empty one" : node_words(list)));
    }
    for (std::size_t i = 0; i < list.size(); ++i) {
      const YAML::Node node = list[i];
      const std::string key = concat("stages[", i, "]");
      if (!node.IsMap()) {
        at_top.problem(node, key, "expects a name and keys, not " + node_words(node));
        continue;
      }
      StageRecipe stage{"", base};
      if (!node["name"].IsDefined()) {
        at_top.problem(node, key, "has no name");
        continue;
      }
      at_top.read_value(node["name"], key + ".name", stage.name);
      check_stage_name(at_top, node["name"], key + ".name", stage.name);
      if (node["prepare"].IsDefined()) {
        at_top.problem(node["prepare"], key + ".prepare",
                       "belongs to the whole recipe, not to a stage");
      }
      places_.push_back(base_places_);
      NodeReader(file_, true, "stages." + stage.name + ".", problems_, places_.back())
          .read_struct(node, "", stage.recipe, {"name", "prepare"});
      check_process_keys(at_top, node, stage, base);
      stages_.push_back(std::move(stage));
    }
  }

  // All stages run in one process group and one run folder.
  static void check_process_keys(NodeReader& at_top, const YAML::Node& node,
                                 const StageRecipe& stage, const Recipe& base) {
    const TrainConfig& own = stage.recipe.train;
    const std::pair<const char*, bool> keys[] = {
        {"run", own.run == base.train.run},
        {"device", own.device == base.train.device},
        {"threads", own.threads == base.train.threads},
        {"timeout_seconds", own.timeout_seconds == base.train.timeout_seconds}};
    for (const auto& [key, same] : keys) {
      if (same) continue;
      at_top.problem(node["train"][key], concat("stages.", stage.name, ".train.", key),
                     "belongs to the whole recipe, not to a stage");
    }
  }

  void check_stage_name(NodeReader& at_top, const YAML::Node& node, const std::string& key,
                        const std::string& name) {
    if (!is_stage_name(name)) {
      at_top.problem(node, key, "'" + name + "' may hold letters, digits, - and _ only");
    }
    for (const StageRecipe& other : stages_) {
      if (other.name == name) at_top.problem(node, key, "'" + name + "' is the name of two stages");
    }
  }

  void check_stage(std::size_t i, const std::vector<std::string>& required) {
    const bool many = stages_.size() > 1;
    std::vector<std::string> lines = validate(stages_[i].recipe);
    for (const std::string& key : required) {
      if (is_empty(stages_[i].recipe, key)) lines.push_back(key + ": is needed and has no value");
    }
    for (const std::string& line : lines) {
      const std::size_t colon = line.find(": ");
      const std::string key = line.substr(0, colon);
      const std::string place = place_of(places_[i], key);
      // What the base recipe has wrong is reported once, what a stage sets with the stage's name.
      const bool from_base = !many || place == place_of(base_places_, key);
      problems_.add(place, (from_base ? "" : "stages." + stages_[i].name + ".") + key,
                    line.substr(colon + 2));
    }
  }

  // The nearest enclosing key that was set; the file when the value is a default.
  std::string place_of(const Places& places, std::string key) const {
    while (!key.empty()) {
      if (const auto it = places.find(key); it != places.end()) return it->second;
      const std::size_t cut = key.find_last_of(".[");
      key = cut == std::string::npos ? "" : key.substr(0, cut);
    }
    return file_.empty() ? "recipe" : file_;
  }

  template <typename S>
  static bool is_empty(const S& self, const std::string& key) {
    const std::size_t dot = key.find('.');
    bool empty = false;
    bool found = false;
    visit(self, [&]<typename T>(const char* name, const T& field, const char*) {
      if (key.substr(0, dot) != name) return;
      found = true;
      if constexpr (Visited<T>) {
        empty = dot != std::string::npos && is_empty(field, key.substr(dot + 1));
      } else if constexpr (requires { field.empty(); }) {
        empty = field.empty();
      }
    });
    GIMBAL_CHECK(found, "no option ", key);
    return empty;
  }

  std::string file_;
  Problems problems_;
  Places base_places_;
  std::vector<StageRecipe> stages_;
  std::vector<Places> places_;
};

}  // namespace

std::vector<StageRecipe> load_recipe(const std::filesystem::path& path,
                                     const std::vector<std::string>& overrides,
                                     const std::vector<std::string>& required) {
  return Loader(path.string()).load(overrides, required);
}

}  // namespace gimbal
