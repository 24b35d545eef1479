// From YAML nodes to recipe structs, noting problems and where each value came from.
#pragma once

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "gimbal/base/error.h"
#include "gimbal/config/problems.h"
#include "gimbal/config/scalar.h"
#include "gimbal/config/visit.h"

namespace gimbal {

/// The place ("recipe.yaml:3:5", "command line") that set a key.
using Places = std::map<std::string, std::string>;

class NodeReader {
 public:
  /// `source`: a file, or "command line" with has_lines = false. `prefix` is put before keys in
  /// messages ("stages.align.").
  NodeReader(std::string source, bool has_lines, std::string prefix, Problems& problems,
             Places& places)
      : source_(std::move(source)),
        has_lines_(has_lines),
        prefix_(std::move(prefix)),
        problems_(problems),
        places_(places) {}

  /// Reads the keys that are present. Keys in `elsewhere` belong to the caller and are passed over.
  template <typename S>
  void read_struct(const YAML::Node& node, const std::string& key, S& out,
                   const std::vector<std::string>& elsewhere = {});

  template <typename T>
  void read_value(const YAML::Node& node, const std::string& key, T& out);

  std::string place(const YAML::Node& node) const {
    const YAML::Mark mark = node.Mark();
    if (!has_lines_ || mark.is_null()) return source_;
    return concat(source_, ":", mark.line + 1, ":", mark.column + 1);
  }

  void problem(const YAML::Node& node, const std::string& key, const std::string& text) {
    problems_.add(place(node), prefix_ + key, text);
  }

 private:
  template <typename T>
  void read_list(const YAML::Node& node, const std::string& key, std::vector<T>& out);
  void read_map(const YAML::Node& node, const std::string& key, std::map<std::string, double>& out);
  void check_keys(const YAML::Node& node, const std::string& key,
                  const std::vector<std::string>& names, const std::vector<std::string>& elsewhere);

  std::string source_;
  bool has_lines_;
  std::string prefix_;
  Problems& problems_;
  Places& places_;
};

/// "a list", "keys", "'abc'": what the node is, for messages.
std::string node_words(const YAML::Node& node);

/// "section.name"; "name" at the top.
std::string join_key(const std::string& section, const std::string& name);

/// "expects one of a, b, not 'c'; did you mean a?"
template <typename T>
std::string wrong_value(const std::string& found, const std::string& word) {
  std::string text = "expects " + expected_words<T>() + ", not " + found;
  if constexpr (std::is_enum_v<T>) {
    std::vector<std::string> names;
    for (const auto& entry : EnumNames<T>::kNames) names.emplace_back(entry.second);
    const std::string meant = nearest(word, names);
    if (!meant.empty()) text += "; did you mean " + meant + "?";
  }
  return text;
}

template <typename S>
void NodeReader::read_struct(const YAML::Node& node, const std::string& key, S& out,
                             const std::vector<std::string>& elsewhere) {
  if (node.IsNull()) return;  // a section without keys
  if (!node.IsMap()) return problem(node, key, "expects keys, not " + node_words(node));
  std::vector<std::string> names;
  visit(out, [&](const char* name, auto& field, const char*) {
    names.emplace_back(name);
    const YAML::Node child = node[name];
    const bool mine = std::find(elsewhere.begin(), elsewhere.end(), name) == elsewhere.end();
    if (child.IsDefined() && mine) read_value(child, join_key(key, name), field);
  });
  check_keys(node, key, names, elsewhere);
}

template <typename T>
void NodeReader::read_value(const YAML::Node& node, const std::string& key, T& out) {
  if constexpr (Visited<T>) {
    read_struct(node, key, out);
  } else if constexpr (kIsScalar<T>) {
    // yaml-cpp marks quoted scalars with the tag "!": "5" in quotes is text and no number.
    const bool quoted = node.Tag() == "!";
    if (!node.IsScalar() || (quoted && std::is_arithmetic_v<T>) ||
        !parse_scalar(node.Scalar(), out)) {
      return problem(node, key,
                     wrong_value<T>(node_words(node), node.IsScalar() ? node.Scalar() : ""));
    }
  } else if constexpr (std::is_same_v<T, std::map<std::string, double>>) {
    read_map(node, key, out);
  } else {
    read_list(node, key, out);
  }
  places_[key] = place(node);
}

template <typename T>
void NodeReader::read_list(const YAML::Node& node, const std::string& key, std::vector<T>& out) {
  if (!node.IsSequence()) {
    return problem(node, key, "expects a list such as [a, b], not " + node_words(node));
  }
  std::vector<T> items(node.size());
  for (std::size_t i = 0; i < items.size(); ++i) {
    read_value(node[i], concat(key, "[", i, "]"), items[i]);
  }
  out = std::move(items);
}

}  // namespace gimbal
