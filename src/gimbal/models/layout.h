// Layout tables: how each parameter of a model family is placed over the tensor-parallel ranks.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "gimbal/nn/parameter.h"
#include "gimbal/nn/ports.h"

namespace gimbal {

/// One row: parameters whose names match (with *) are cut along `dim` in whole units of `unit`
/// indices (a head), or are whole on every rank (dim -1).
struct LayoutRow {
  std::string pattern;
  int dim = -1;
  std::int64_t unit = 1;
};

using LayoutTable = std::vector<LayoutRow>;

/// Takes each parameter's part. Throws InternalError when a parameter matches no row or several, or
/// a row matches nothing.
void apply_layout(const LayoutTable& table, const std::vector<ParameterPtr>& parameters,
                  const LinearComm& ranks);

}  // namespace gimbal
