#include "gimbal/cost/hardware_file.h"

#include <algorithm>
#include <filesystem>

#include "gimbal/config/problems.h"
#include "gimbal/cost/json_fields.h"
#include "gimbal/cost/link_json.h"

namespace gimbal {
namespace {

const Hardware& machine_named(const std::string& name) {
  for (const Hardware& hardware : known_hardware())
    if (hardware.name == name) return hardware;
  std::string list;
  std::vector<std::string> names;
  for (const Hardware& hardware : known_hardware()) {
    names.push_back(hardware.name);
    list += (list.empty() ? "" : ", ") + hardware.name;
  }
  const std::string meant = nearest(name, names);
  throw UserError(concat("unknown hardware '", name, "'",
                         meant.empty() ? "" : "; did you mean '" + meant + "'?", "; known: ", list,
                         ", or the path of a .json file that describes a machine"));
}

std::map<std::string, double> peaks_from_json(const JsonFields& fields) {
  std::map<std::string, double> peaks;
  const JsonFields entries = fields.object("peak_flops", {"bfloat16", "float32"});
  for (const char* dtype : {"bfloat16", "float32"})
    if (entries.has(dtype)) peaks[dtype] = entries.positive(dtype);
  if (peaks.empty()) fields.fail("peak_flops", "has no dtype; give bfloat16 or float32, in FLOP/s");
  return peaks;
}

void read_efficiency(const JsonFields& fields, std::map<std::string, double>& efficiency) {
  std::vector<std::string> parts;
  for (const auto& [part, share] : efficiency) parts.push_back(part);
  const JsonFields entries = fields.object("efficiency", parts);
  for (const std::string& part : parts) {
    if (!entries.has(part)) continue;
    efficiency[part] = entries.positive(part);
    if (efficiency[part] > 1) entries.fail(part, "is a share of the peak: above 0, at most 1");
  }
}

}  // namespace

OrderedJson to_json(const Hardware& hardware) {
  OrderedJson json;
  json["name"] = hardware.name;
  json["peak_flops"] = hardware.peak_flops;
  json["memory_bandwidth"] = hardware.memory_bandwidth;
  json["memory_bytes"] = hardware.memory_bytes;
  json["reserved_bytes"] = hardware.reserved_bytes;
  json["links"] = links_to_json(hardware.links);
  json["efficiency"] = hardware.efficiency;
  json["launch_seconds"] = hardware.launch_seconds;
  json["step_overhead"] = hardware.step_overhead;
  json["notes"] = hardware.notes;
  return json;
}

Hardware hardware_from_json(const Json& json, const std::string& where) {
  const JsonFields fields(
      json, where, "",
      {"name", "peak_flops", "memory_bandwidth", "memory_bytes", "reserved_bytes", "links",
       "efficiency", "launch_seconds", "step_overhead", "notes"});
  const Hardware& usual = machine_named("a100-80g");
  Hardware hardware;
  hardware.name = fields.text("name");
  hardware.peak_flops = peaks_from_json(fields);
  hardware.memory_bandwidth = fields.positive("memory_bandwidth");
  hardware.memory_bytes = fields.positive("memory_bytes");
  hardware.reserved_bytes =
      fields.has("reserved_bytes") ? fields.number("reserved_bytes") : usual.reserved_bytes;
  if (hardware.reserved_bytes >= hardware.memory_bytes)
    fields.fail("reserved_bytes",
                concat("is ", hardware.reserved_bytes, ", not below memory_bytes ",
                       hardware.memory_bytes, "; give the bytes that are not ours to use"));
  hardware.links = links_from_json(fields, "links");
  hardware.efficiency = usual.efficiency;
  if (fields.has("efficiency")) read_efficiency(fields, hardware.efficiency);
  hardware.launch_seconds =
      fields.has("launch_seconds") ? fields.number("launch_seconds") : usual.launch_seconds;
  hardware.step_overhead =
      fields.has("step_overhead") ? fields.number("step_overhead") : usual.step_overhead;
  if (fields.has("notes")) hardware.notes = fields.texts("notes");
  if (!fields.has("efficiency"))
    hardware.notes.push_back("Shares of the peak are those of A100; an assumption.");
  return hardware;
}

Hardware find_hardware(const std::string& name) {
  if (!name.ends_with(".json")) return machine_named(name);
  const Json json = read_json(name);
  if (!json.is_array()) return hardware_from_json(json, name);
  GIMBAL_USER_CHECK(json.size() == 1, name, ": has ", json.size(),
                    " machines; leave the one to plan for");
  return hardware_from_json(json.front(), name);
}

}  // namespace gimbal
