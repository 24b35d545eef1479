#include "gimbal/models/layout.h"

#include "gimbal/base/error.h"
#include "gimbal/base/name_pattern.h"

namespace gimbal {

void apply_layout(const LayoutTable& table, const std::vector<ParameterPtr>& parameters,
                  const LinearComm& ranks) {
  const bool whole = ranks.units(0).parts() == 1;
  std::vector<bool> used(table.size(), false);
  for (const ParameterPtr& parameter : parameters) {
    const LayoutRow* found = nullptr;
    for (std::size_t row = 0; row < table.size(); ++row) {
      if (!matches_pattern(table[row].pattern, parameter->name)) continue;
      GIMBAL_CHECK(found == nullptr, "parameter ", parameter->name, " matches two layout rows, '",
                   found->pattern, "' and '", table[row].pattern, "'");
      found = &table[row];
      used[row] = true;
    }
    GIMBAL_CHECK(found != nullptr, "parameter ", parameter->name, " matches no layout row");
    if (whole || found->dim < 0) continue;
    const auto dim = static_cast<std::size_t>(found->dim);
    GIMBAL_CHECK(dim < parameter->shape.size(), "parameter ", parameter->name, " has no dim ", dim);
    const std::int64_t size = parameter->shape[dim], unit = found->unit;
    GIMBAL_CHECK(unit >= 1 && size % unit == 0, "parameter ", parameter->name, ": ", size,
                 " indices in units of ", unit);
    const RowSplit cut = ranks.units(size / unit);
    take_part(*parameter, found->dim, cut.own_begin() * unit, cut.own_size() * unit);
  }
  for (std::size_t row = 0; row < table.size(); ++row)
    GIMBAL_CHECK(used[row], "layout row '", table[row].pattern, "' matches no parameter");
}

}  // namespace gimbal
