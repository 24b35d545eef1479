#include <iterator>
#include <utility>

#include "gimbal/base/error.h"
#include "gimbal/plan/methods.h"

namespace gimbal {
namespace {

constexpr std::pair<PartitionMethod, const char*> kPartitionNames[] = {
    {PartitionMethod::kGimbal, "gimbal"},   {PartitionMethod::kParameters, "parameters"},
    {PartitionMethod::kLayers, "layers"},   {PartitionMethod::kOmniBal, "omnibal"},
    {PartitionMethod::kAdaPipe, "adapipe"},
};
constexpr std::pair<RecomputeMethod, const char*> kRecomputeNames[] = {
    {RecomputeMethod::kFull, "full"},
    {RecomputeMethod::kNone, "none"},
    {RecomputeMethod::kOmniBal, "omnibal"},
    {RecomputeMethod::kKnapsack, "knapsack"},
};

template <typename Names, typename Method>
const char* name_of_method(const Names& names, Method method) {
  for (const auto& [known, name] : names) {
    if (known == method) return name;
  }
  GIMBAL_CHECK(false, "unknown method ", static_cast<int>(method));
}

template <typename Names>
auto method_of_name(const Names& names, const char* what, const std::string& name) {
  std::string known_names;
  for (const auto& [method, known] : names) {
    if (name == known) return method;
    known_names += (known_names.empty() ? "" : ", ") + std::string(known);
  }
  throw UserError(concat("unknown ", what, " method '", name, "'; known: ", known_names));
}

}  // namespace

const char* method_name(PartitionMethod method) { return name_of_method(kPartitionNames, method); }
const char* method_name(RecomputeMethod method) { return name_of_method(kRecomputeNames, method); }

PartitionMethod partition_method(const std::string& name) {
  return method_of_name(kPartitionNames, "partition", name);
}
RecomputeMethod recompute_method(const std::string& name) {
  return method_of_name(kRecomputeNames, "recompute", name);
}

}  // namespace gimbal
