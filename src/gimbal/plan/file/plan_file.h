// plan.json.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "gimbal/base/json.h"
#include "gimbal/plan/plan.h"

namespace gimbal {

/// Version of the format, in key "gimbal_plan".
inline constexpr std::uint64_t kPlanFormat = 1;

/// Everything of the plan, in an order for people; blocks and levels as runs.
OrderedJson to_json(const Plan& plan);
/// plan_from_json(to_json(plan)) is the plan, to the bit. Throws UserError that names file and key
/// for what is missing, unknown, of the wrong type, or does not fit together (stages that do not
/// cover the blocks once, levels unknown, a schedule that is not of the mesh).
Plan plan_from_json(const Json& json, const std::string& where);
void save_plan(const Plan& plan, const std::filesystem::path& file);
Plan load_plan(const std::filesystem::path& file);

}  // namespace gimbal
