#include "gimbal/cost/link_json.h"

namespace gimbal {
namespace {

OrderedJson link_to_json(const LinkCost& link) {
  OrderedJson json;
  json["latency"] = link.latency;
  json["bytes_per_second"] = link.bytes_per_second;
  return json;
}

LinkCost link_from_json(const JsonFields& parent, const std::string& key) {
  const JsonFields fields = parent.object(key, {"latency", "bytes_per_second"});
  return {.latency = fields.number("latency"),
          .bytes_per_second = fields.number("bytes_per_second")};
}

}  // namespace

OrderedJson links_to_json(const LinkTable& links) {
  OrderedJson json;
  json["devices_per_node"] = links.devices_per_node;
  json["inside_node"] = link_to_json(links.inside_node);
  json["between_nodes"] = link_to_json(links.between_nodes);
  return json;
}

LinkTable links_from_json(const JsonFields& parent, const std::string& key) {
  const JsonFields fields =
      parent.object(key, {"devices_per_node", "inside_node", "between_nodes"});
  LinkTable links;
  links.devices_per_node = fields.count("devices_per_node");
  links.inside_node = link_from_json(fields, "inside_node");
  links.between_nodes = link_from_json(fields, "between_nodes");
  return links;
}

}  // namespace gimbal
