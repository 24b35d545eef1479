#include "apps/cli/balance/names.h"

#include <algorithm>

#include "gimbal/base/error.h"
#include "gimbal/config/problems.h"

namespace gimbal::cli {

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

std::size_t index_of(const std::string& option, const std::string& name, const std::string& kind,
                     const std::vector<std::string>& names) {
  const auto at = std::find(names.begin(), names.end(), name);
  if (at != names.end()) return static_cast<std::size_t>(at - names.begin());
  const std::string meant = nearest(name, names);
  throw UserError(concat(option, " ", name, ": the input has no ", kind, " '", name, "'; it has ",
                         joined(names), meant.empty() ? "" : "; did you mean " + meant + "?"));
}

}  // namespace gimbal::cli
