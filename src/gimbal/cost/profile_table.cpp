#include "gimbal/cost/profile_table.h"

#include <cmath>

#include "gimbal/base/file.h"
#include "gimbal/config/enums.h"
#include "gimbal/cost/json_fields.h"
#include "gimbal/cost/link_json.h"

namespace gimbal {
namespace {

constexpr const char* kProfileFormat = "gimbal profile";
constexpr int kProfileVersion = 1;

using LevelLines = std::array<CostLine, kNumRecomputeLevels>;

OrderedJson line_to_json(const CostLine& line) {
  // JSON has no infinity: it would come back as null.
  GIMBAL_CHECK(
      std::isfinite(line.base) && std::isfinite(line.per_row) && std::isfinite(line.per_pair),
      "a cost is not finite");
  return OrderedJson::array({line.base, line.per_row, line.per_pair});
}

CostLine line_from_json(const JsonFields& parent, const std::string& key) {
  const Json& json = parent.value(key);
  bool good = json.is_array() && json.size() == 3;
  for (std::size_t i = 0; good && i < 3; ++i) {
    good =
        json[i].is_number() && std::isfinite(json[i].get<double>()) && json[i].get<double>() >= 0;
  }
  if (!good)
    parent.fail(key, "has to be a list of 3 numbers of at least 0: [fixed, per row, per pair]");
  return {json[0].get<double>(), json[1].get<double>(), json[2].get<double>()};
}

std::string level_name(std::size_t level) { return enum_name(static_cast<Recompute>(level)); }

OrderedJson levels_to_json(const LevelLines& lines) {
  OrderedJson json;
  for (std::size_t level = 0; level < lines.size(); ++level)
    json[level_name(level)] = line_to_json(lines[level]);
  return json;
}

LevelLines levels_from_json(const JsonFields& parent, const std::string& key) {
  std::vector<std::string> names;
  for (std::size_t level = 0; level < kNumRecomputeLevels; ++level)
    names.push_back(level_name(level));
  const JsonFields fields = parent.object(key, names);
  LevelLines lines;
  for (std::size_t level = 0; level < lines.size(); ++level)
    lines[level] = line_from_json(fields, names[level]);
  return lines;
}

OrderedJson block_to_json(const BlockCost& block) {
  OrderedJson json;
  json["forward"] = line_to_json(block.forward);
  json["backward_input"] = line_to_json(block.backward_input);
  json["backward_weight"] = line_to_json(block.backward_weight);
  json["recompute"] = levels_to_json(block.recompute);
  json["saved"] = levels_to_json(block.saved);
  json["forward_workspace"] = line_to_json(block.forward_workspace);
  json["backward_workspace"] = levels_to_json(block.backward_workspace);
  json["output"] = line_to_json(block.output);
  json["residual"] = block.residual;
  return json;
}

BlockCost block_from_json(const JsonFields& blocks, const std::string& cost_class) {
  const JsonFields fields = blocks.object(
      cost_class, {"forward", "backward_input", "backward_weight", "recompute", "saved",
                   "forward_workspace", "backward_workspace", "output", "residual"});
  BlockCost block;
  block.forward = line_from_json(fields, "forward");
  block.backward_input = line_from_json(fields, "backward_input");
  block.backward_weight = line_from_json(fields, "backward_weight");
  block.recompute = levels_from_json(fields, "recompute");
  block.saved = levels_from_json(fields, "saved");
  block.forward_workspace = line_from_json(fields, "forward_workspace");
  block.backward_workspace = levels_from_json(fields, "backward_workspace");
  block.output = line_from_json(fields, "output");
  block.residual = fields.number("residual");
  return block;
}

void check_format(const Json& json, const std::string& where) {
  GIMBAL_USER_CHECK(json.is_object() && json.contains("format") && json["format"] == kProfileFormat,
                    where, ": key 'format' is not '", kProfileFormat,
                    "': this is no profile; write one with `gimbal profile`");
  const Json version = json.value("version", Json());
  GIMBAL_USER_CHECK(version == kProfileVersion, where, ": key 'version' is ", version.dump(),
                    ", this gimbal reads version ", kProfileVersion,
                    "; run `gimbal profile` again");
}

}  // namespace

const BlockCost& ProfileTable::block(const std::string& cost_class) const {
  const auto it = blocks.find(cost_class);
  if (it != blocks.end()) return it->second;
  std::string known;
  for (const auto& [name, cost] : blocks) known += (known.empty() ? "" : ", ") + name;
  throw UserError(concat("the profile of '", hardware, "' has no blocks of class '", cost_class,
                         "', only ", known.empty() ? "none" : known,
                         "; profile this model with `gimbal profile`"));
}

OrderedJson to_json(const ProfileTable& table) {
  OrderedJson json;
  json["format"] = kProfileFormat;
  json["version"] = kProfileVersion;
  json["origin"] = table.origin;
  json["hardware"] = table.hardware;
  json["dtype"] = table.dtype;
  json["model_type"] = table.model_type;
  json["model_fingerprint"] = table.model_fingerprint;
  json["memory_bytes"] = table.memory_bytes;
  json["reserved_bytes"] = table.reserved_bytes;
  json["peak_flops"] = table.peak_flops;
  json["value_bytes"] = table.value_bytes;
  json["optimizer_per_parameter"] = table.optimizer_per_parameter;
  json["step_overhead"] = table.step_overhead;
  json["links"] = links_to_json(table.links);
  OrderedJson blocks = OrderedJson::object();
  for (const auto& [name, block] : table.blocks) blocks[name] = block_to_json(block);
  json["blocks"] = blocks;
  json["notes"] = table.notes;
  return json;
}

ProfileTable profile_from_json(const Json& json, const std::string& where) {
  check_format(json, where);
  const JsonFields fields(
      json, where, "",
      {"format", "version", "origin", "hardware", "dtype", "model_type", "model_fingerprint",
       "memory_bytes", "reserved_bytes", "peak_flops", "value_bytes", "optimizer_per_parameter",
       "step_overhead", "links", "blocks", "notes"});
  ProfileTable table;
  table.origin = fields.text("origin");
  if (table.origin != "measured" && table.origin != "analytic")
    fields.fail("origin", "is '" + table.origin + "', not 'measured' or 'analytic'");
  table.hardware = fields.text("hardware");
  table.dtype = fields.text("dtype");
  table.model_type = fields.text("model_type");
  table.model_fingerprint = fields.text("model_fingerprint");
  table.memory_bytes = fields.number("memory_bytes");
  table.reserved_bytes = fields.number("reserved_bytes");
  table.peak_flops = fields.number("peak_flops");
  table.value_bytes = fields.count("value_bytes");
  table.optimizer_per_parameter = fields.number("optimizer_per_parameter");
  table.step_overhead = fields.number("step_overhead");
  table.links = links_from_json(fields, "links");
  const Json& blocks = fields.any_object("blocks");
  std::vector<std::string> classes;
  for (const auto& item : blocks.items()) classes.push_back(item.key());
  const JsonFields block_fields(blocks, where, "blocks", classes);
  for (const std::string& name : classes) table.blocks[name] = block_from_json(block_fields, name);
  table.notes = fields.texts("notes");
  return table;
}

void save_profile(const ProfileTable& table, const std::filesystem::path& file) {
  write_file_atomic(file, to_json(table).dump(2) + "\n");
}

ProfileTable load_profile(const std::filesystem::path& file) {
  return profile_from_json(read_json(file), file.string());
}

}  // namespace gimbal
