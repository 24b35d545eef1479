// LinkTable in JSON: the same in profiles and in files of machines.
#pragma once

#include <string>

#include "gimbal/cost/json_fields.h"
#include "gimbal/cost/profile_table.h"

namespace gimbal {

OrderedJson links_to_json(const LinkTable& links);
/// Throws UserError that names file and key.
LinkTable links_from_json(const JsonFields& parent, const std::string& key);

}  // namespace gimbal
