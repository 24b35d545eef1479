// PatternSet: its check, its fingerprint and its file.
#include <algorithm>
#include <string>

#include "gimbal/balance/patterns/pattern_set.h"
#include "gimbal/base/error.h"
#include "gimbal/base/file.h"
#include "gimbal/base/json.h"
#include "gimbal/base/rng.h"

namespace gimbal {
namespace {

constexpr const char* kPatternFileFormat = "gimbal patterns";
constexpr int kPatternFileVersion = 1;

class Fingerprint {
 public:
  void add(std::uint64_t value) { state_ = mix_bits(state_ ^ mix_bits(value)); }
  template <typename Values>
  void add_all(const Values& values) {
    add(values.size());
    for (const auto value : values) add(static_cast<std::uint64_t>(value));
  }
  std::uint64_t value() const { return state_; }

 private:
  std::uint64_t state_ = 0;
};

// Nodes and patterns are written as lists of numbers.
Json tree_json(const TypeTree& tree) {
  Json nodes = Json::array();
  for (const TypeTree::Node& node : tree.nodes)
    nodes.push_back({node.limit, node.left, node.right, node.threshold});
  return {{"nodes", nodes}, {"low", tree.low}, {"high", tree.high}};
}

TypeTree tree_from(const Json& json, std::size_t num_limits, const std::string& where) {
  TypeTree tree;
  tree.num_limits = static_cast<int>(num_limits);
  tree.low = json_get<std::vector<std::uint64_t>>(json, "low", where);
  tree.high = json_get<std::vector<std::uint64_t>>(json, "high", where);
  for (const auto& row : json_get<std::vector<std::vector<std::int64_t>>>(json, "nodes", where)) {
    GIMBAL_USER_CHECK(row.size() == 4, where, ": a node of the type tree has ", row.size(),
                      " numbers instead of 4");
    tree.nodes.push_back({static_cast<std::int32_t>(row[0]), static_cast<std::uint32_t>(row[1]),
                          static_cast<std::uint32_t>(row[2]), static_cast<std::uint64_t>(row[3])});
  }
  return tree;
}

// What no damaged file may have: the packing code relies on it.
bool sound(const PatternSet& set) {
  const std::size_t dims = set.caps.size();
  if (set.kinds.size() != dims || set.names.size() != dims) return false;
  if (set.patterns.empty()) return dims > 0 && set.use.empty() && set.tree.nodes.empty();
  const TypeTree& tree = set.tree;
  const std::size_t types = dims == 0 ? 0 : tree.high.size() / dims;
  if (set.grid.units.size() != dims || set.grid.caps.size() != dims ||
      std::count(set.grid.units.begin(), set.grid.units.end(), 0U) > 0)
    return false;
  if (types == 0 || tree.high.size() != types * dims || tree.low.size() != types * dims ||
      set.demand.size() != types || set.use.size() != set.patterns.size())
    return false;
  for (std::size_t n = 0; n < tree.nodes.size(); ++n) {
    const TypeTree::Node& node = tree.nodes[n];
    const bool leaf = node.limit < 0;
    if (leaf ? node.left >= types
             : static_cast<std::size_t>(node.limit) >= dims || node.left <= n || node.right <= n ||
                   node.left >= tree.nodes.size() || node.right >= tree.nodes.size())
      return false;
  }
  for (std::size_t p = 0; p < set.patterns.size(); ++p) {
    for (std::size_t d = 0; d < dims; ++d) {
      std::uint64_t left = set.caps[d];
      for (const TypeCount& entry : set.patterns[p]) {
        if (entry.type >= types || entry.count == 0) return false;
        const std::uint64_t high = tree.high[entry.type * dims + d];
        if (high > 0 && entry.count > left / high) return false;
        left -= high * entry.count;
      }
    }
  }
  return true;
}

}  // namespace

bool PatternSet::fits(const PackLimits& limits) const {
  if (caps.size() != static_cast<std::size_t>(limits.count())) return false;
  for (int l = 0; l < limits.count(); ++l) {
    const auto i = static_cast<std::size_t>(l);
    const std::string name = limits.given_name(l);
    if (caps[i] != limits.cap(l) || kinds[i] != limits.kind(l)) return false;
    if (!names[i].empty() && !name.empty() && names[i] != name) return false;
  }
  return true;
}

std::uint64_t PatternSet::fingerprint() const {
  Fingerprint print;
  print.add_all(caps);
  for (const std::string& kind : kinds) print.add(hash_name(kind));
  for (const std::string& name : names) print.add(hash_name(name));
  print.add_all(grid.units);
  print.add_all(grid.caps);
  print.add_all(tree.low);
  print.add_all(tree.high);
  for (const TypeTree::Node& node : tree.nodes) {
    print.add(static_cast<std::uint64_t>(static_cast<std::int64_t>(node.limit)));
    print.add(node.left);
    print.add(node.right);
    print.add(node.threshold);
  }
  for (const PatternColumn& pattern : patterns) {
    print.add(pattern.size());
    for (const TypeCount& entry : pattern) {
      print.add(entry.type);
      print.add(entry.count);
    }
  }
  print.add_all(demand);
  print.add_all(use);
  return print.value();
}

void save_patterns(const PatternSet& set, const std::filesystem::path& file) {
  Json patterns = Json::array();
  for (const PatternColumn& pattern : set.patterns) {
    Json entries = Json::array();
    for (const TypeCount& entry : pattern) entries.push_back({entry.type, entry.count});
    patterns.push_back(entries);
  }
  const Json json = {{"format", kPatternFileFormat},
                     {"version", kPatternFileVersion},
                     {"caps", set.caps},
                     {"kinds", set.kinds},
                     {"names", set.names},
                     {"units", set.grid.units},
                     {"cells", set.grid.caps},
                     {"types", tree_json(set.tree)},
                     {"patterns", patterns},
                     {"demand", set.demand},
                     {"use", set.use},
                     {"lp_value", set.lp_value},
                     {"complete", set.complete},
                     {"seconds", set.seconds},
                     {"fingerprint", set.fingerprint()}};
  write_file_atomic(file, json.dump() + "\n");
}

PatternSet load_patterns(const std::filesystem::path& file) {
  const std::string where = file.string();
  const Json json = read_json(file);
  GIMBAL_USER_CHECK(
      json.is_object() && json_get_or<std::string>(json, "format", "", where) == kPatternFileFormat,
      where, " is not a pattern file");
  const int version = json_get<int>(json, "version", where);
  GIMBAL_USER_CHECK(version == kPatternFileVersion, where, ": a pattern file of version ", version,
                    "; this program reads version ", kPatternFileVersion,
                    ". Remove it to solve anew.");
  PatternSet set;
  set.caps = json_get<std::vector<std::uint64_t>>(json, "caps", where);
  set.kinds = json_get<std::vector<std::string>>(json, "kinds", where);
  set.names = json_get<std::vector<std::string>>(json, "names", where);
  set.grid.units = json_get<std::vector<std::uint64_t>>(json, "units", where);
  set.grid.caps = json_get<std::vector<std::uint32_t>>(json, "cells", where);
  set.tree = tree_from(json_get<Json>(json, "types", where), set.caps.size(), where);
  using Rows = std::vector<std::vector<std::vector<std::uint32_t>>>;
  for (const auto& row : json_get<Rows>(json, "patterns", where)) {
    PatternColumn pattern;
    for (const auto& entry : row) {
      GIMBAL_USER_CHECK(entry.size() == 2, where, ": a pattern entry of ", entry.size(),
                        " numbers instead of 2");
      pattern.push_back({entry[0], entry[1]});
    }
    set.patterns.push_back(std::move(pattern));
  }
  set.demand = json_get<std::vector<std::uint64_t>>(json, "demand", where);
  set.use = json_get<std::vector<std::uint64_t>>(json, "use", where);
  set.lp_value = json_get<double>(json, "lp_value", where);
  set.complete = json_get<bool>(json, "complete", where);
  set.seconds = json_get<double>(json, "seconds", where);
  GIMBAL_USER_CHECK(
      json_get<std::uint64_t>(json, "fingerprint", where) == set.fingerprint() && sound(set), where,
      ": the file is damaged. Remove it to solve the patterns anew.");
  return set;
}

}  // namespace gimbal
