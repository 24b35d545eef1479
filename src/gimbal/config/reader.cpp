#include "gimbal/config/reader.h"

namespace gimbal {

std::string node_words(const YAML::Node& node) {
  if (node.IsMap()) return "keys";
  if (node.IsSequence()) return "a list";
  if (node.IsScalar()) {
    return node.Tag() == "!" ? "the quoted text '" + node.Scalar() + "'"
                             : "'" + node.Scalar() + "'";
  }
  return "nothing";
}

std::string join_key(const std::string& section, const std::string& name) {
  return section.empty() ? name : section + "." + name;
}

void NodeReader::read_map(const YAML::Node& node, const std::string& key,
                          std::map<std::string, double>& out) {
  if (!node.IsMap()) {
    return problem(node, key, "expects names with numbers, not " + node_words(node));
  }
  std::map<std::string, double> entries;
  std::vector<std::string> names;
  for (const auto& entry : node) {
    if (!entry.first.IsScalar()) continue;  // check_keys reports it
    names.push_back(entry.first.Scalar());
    read_value(entry.second, join_key(key, names.back()), entries[names.back()]);
  }
  check_keys(node, key, names, {});
  out = std::move(entries);
}

void NodeReader::check_keys(const YAML::Node& node, const std::string& key,
                            const std::vector<std::string>& names,
                            const std::vector<std::string>& elsewhere) {
  std::vector<std::string> valid = names;
  valid.insert(valid.end(), elsewhere.begin(), elsewhere.end());
  std::vector<std::string> seen;
  for (const auto& entry : node) {
    if (!entry.first.IsScalar()) {
      problem(entry.first, key, "a key must be a word, not " + node_words(entry.first));
      continue;
    }
    const std::string& name = entry.first.Scalar();
    if (std::find(seen.begin(), seen.end(), name) != seen.end()) {
      problem(entry.first, join_key(key, name), "is given twice");
    } else if (std::find(valid.begin(), valid.end(), name) == valid.end()) {
      problems_.add_unknown_key(place(entry.first), prefix_, join_key(key, name), valid);
    }
    seen.push_back(name);
  }
}

}  // namespace gimbal
