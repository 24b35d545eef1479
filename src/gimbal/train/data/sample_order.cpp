#include "gimbal/train/data/sample_order.h"

#include <map>
#include <sstream>

#include "gimbal/base/error.h"
#include "gimbal/config/enums.h"

namespace gimbal {
namespace {

/// Goes up with every change of the balancer that changes the order of samples.
constexpr int kOrderVersion = 2;

/// The parts of a fingerprint, by name. Names of sources may hold anything, so that the weights are
/// one part: all that follows the last number.
struct OrderParts {
  std::map<std::string, std::string> values;
  std::string weights;
};

constexpr const char* kLastPart = "patterns";

OrderParts parts_of(const std::string& fingerprint) {
  OrderParts parts;
  std::istringstream in(fingerprint);
  for (std::string word; !parts.values.contains(kLastPart) && in >> word;) {
    const std::size_t equals = word.find('=');
    if (equals != std::string::npos) parts.values[word.substr(0, equals)] = word.substr(equals + 1);
  }
  std::getline(in, parts.weights);
  return parts;
}

}  // namespace

std::string order_fingerprint(const Recipe& recipe, std::uint64_t patterns) {
  const BalanceConfig& b = recipe.balance;
  std::string text =
      concat("order=", kOrderVersion, " method=", enum_name(b.method), " text_cap=", b.text_cap,
             " vision_cap=", b.vision_cap, " packs_per_step=", b.packs_per_step,
             " packs_per_slot=", b.packs_per_slot == 0 ? b.packs_per_step : b.packs_per_slot,
             " samples_per_pack=", b.samples_per_pack, " oversize=", enum_name(b.oversize),
             " seed=", recipe.train.seed, " ", kLastPart, "=", patterns);
  for (const auto& [name, weight] : recipe.data.weights) text += concat(" ", name, "=", weight);
  return text;
}

std::string order_changes(const std::string& saved, const std::string& current) {
  const OrderParts old_parts = parts_of(saved), new_parts = parts_of(current);
  std::string lines;
  const auto value = [](const OrderParts& parts, const std::string& name) {
    const auto found = parts.values.find(name);
    return found == parts.values.end() ? std::string("not known") : found->second;
  };
  const auto differ = [&](const std::string& name) {
    return value(old_parts, name) != value(new_parts, name);
  };
  const auto slots_are_steps = [&](const OrderParts& parts) {
    return value(parts, "packs_per_slot") == value(parts, "packs_per_step");
  };
  const auto add = [&](const std::string& key, const std::string& now, const std::string& before) {
    lines += concat("\n  ", key, " is ", now, "; the run began with ", before);
  };
  if (differ("order")) {
    return concat(
        "\n  this version of Gimbal orders samples in another way than the one that the "
        "run began with");
  }
  for (const char* name : {"method", "text_cap", "vision_cap", "packs_per_step", "packs_per_slot",
                           "samples_per_pack", "oversize", "seed"}) {
    // Slots that are whole steps change with them.
    const bool follows = std::string(name) == "packs_per_slot" && slots_are_steps(old_parts) &&
                         slots_are_steps(new_parts);
    if (!differ(name) || follows) continue;
    const std::string section = std::string(name) == "seed" ? "train." : "balance.";
    add(section + name, value(new_parts, name), value(old_parts, name));
  }
  if (old_parts.weights != new_parts.weights) {
    const auto shown = [](const std::string& weights) {
      return weights.empty() ? std::string("none") : weights.substr(1);
    };
    add("data.weights", shown(new_parts.weights), shown(old_parts.weights));
  }
  // Patterns are made for the caps: where these are the same, the file has changed.
  if (lines.empty() && differ(kLastPart)) {
    return "\n  the packing patterns (patterns.json in the run folder) are not those that the run "
           "began with";
  }
  return lines;
}

}  // namespace gimbal
