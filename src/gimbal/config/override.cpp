#include "gimbal/config/override.h"

namespace gimbal {
namespace {

constexpr const char* kPlace = "command line";

// One override on its way to its field.
class FieldSetter {
 public:
  FieldSetter(std::string prefix, std::string key, std::string text, Problems& problems,
              Places& places)
      : prefix_(std::move(prefix)),
        key_(std::move(key)),
        text_(std::move(text)),
        problems_(problems),
        places_(places) {}

  // `at`: where the name of a field of `self` begins in the key.
  template <typename S>
  void set_in(S& self, std::size_t at) {
    const std::size_t dot = key_.find('.', at);
    const std::string name = key_.substr(at, dot - at);
    bool found = false;
    std::vector<std::string> names;
    visit(self, [&](const char* field_name, auto& field, const char*) {
      names.emplace_back(field_name);
      if (name != field_name) return;
      found = true;
      set_field(field, dot == std::string::npos ? key_.size() : dot + 1);
    });
    if (!found) {
      const std::string rest = dot == std::string::npos ? key_ : key_.substr(0, dot);
      problems_.add_unknown_key(kPlace, prefix_, dot == std::string::npos ? key_ : rest, names);
    }
  }

 private:
  template <typename T>
  void set_field(T& field, std::size_t at) {
    if (at >= key_.size()) return set_whole(field);
    if constexpr (Visited<T>) {
      set_in(field, at);
    } else if constexpr (std::is_same_v<T, std::map<std::string, double>>) {
      set_whole(field[key_.substr(at)]);
      places_[key_.substr(0, at - 1)] = kPlace;
    } else {
      problems_.add(kPlace, prefix_ + key_, "there are no keys below " + key_.substr(0, at - 1));
    }
  }

  template <typename T>
  void set_whole(T& field) {
    if constexpr (kIsScalar<T>) {
      if (!parse_scalar(text_, field)) {
        return problems_.add(kPlace, prefix_ + key_, wrong_value<T>("'" + text_ + "'", text_));
      }
      places_[key_] = kPlace;
    } else {
      YAML::Node node;
      try {
        node = YAML::Load(text_);
      } catch (const YAML::Exception& error) {
        return problems_.add(kPlace, prefix_ + key_, "is not valid YAML: " + error.msg);
      }
      NodeReader(kPlace, false, prefix_, problems_, places_).read_value(node, key_, field);
    }
  }

  std::string prefix_;
  std::string key_;
  std::string text_;
  Problems& problems_;
  Places& places_;
};

}  // namespace

void apply_override(const std::string& argument, std::vector<StageRecipe>& stages,
                    std::vector<Places>& places, Problems& problems) {
  const std::size_t equals = argument.find('=');
  if (equals == std::string::npos || equals == 0) {
    return problems.add(kPlace, "", "'" + argument + "' is no override; write key=value");
  }
  const std::string key = argument.substr(0, equals);
  const std::string text = argument.substr(equals + 1);
  if (key != "stages" && !key.starts_with("stages.")) {
    for (std::size_t i = 0; i < stages.size(); ++i) {
      FieldSetter("", key, text, problems, places[i]).set_in(stages[i].recipe, 0);
    }
    return;
  }
  const std::size_t name_begin = std::string("stages.").size();
  const std::size_t dot = key.find('.', name_begin);
  if (dot == std::string::npos) {
    return problems.add(kPlace, key, "write stages.NAME.key=value");
  }
  const std::string name = key.substr(name_begin, dot - name_begin);
  const std::string rest = key.substr(dot + 1);
  std::vector<std::string> names;
  for (std::size_t i = 0; i < stages.size(); ++i) {
    names.push_back(stages[i].name);
    if (stages[i].name != name) continue;
    const bool of_process = rest == "train.run" || rest == "train.device" ||
                            rest == "train.threads" || rest == "train.timeout_seconds";
    if (rest == "name" || rest == "prepare" || rest.starts_with("prepare.") || of_process) {
      return problems.add(kPlace, key, "belongs to the whole recipe, not to a stage");
    }
    FieldSetter("stages." + name + ".", rest, text, problems, places[i])
        .set_in(stages[i].recipe, 0);
    return;
  }
  std::string list;
  for (const std::string& known : names) list += (list.empty() ? "" : ", ") + known;
  problems.add(kPlace, key, "there is no stage '" + name + "'; the recipe has: " + list);
}

}  // namespace gimbal
