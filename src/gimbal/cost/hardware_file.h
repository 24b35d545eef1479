// Machines that users describe in JSON.
#pragma once

#include <string>

#include "gimbal/base/json.h"
#include "gimbal/cost/hardware.h"

namespace gimbal {

OrderedJson to_json(const Hardware& hardware);
/// One machine. Required: name, peak_flops, memory_bandwidth, memory_bytes, links. Others default
/// to those of a100-80g. Throws UserError that names `where` and the key.
Hardware hardware_from_json(const Json& json, const std::string& where);

}  // namespace gimbal
