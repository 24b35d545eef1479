// Exchanges of rows between the ranks of a group, uneven and exact; no gradients. Part p of a split
// belongs to rank p of the group. All wait, and return at once when the split has no rows.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "gimbal/nn/row_split.h"
#include "gimbal/parallel/comm.h"

namespace gimbal {

/// The rows of all parts from each rank's own.
at::Tensor gather_part_rows(Comm& ranks, const at::Tensor& own, const RowSplit& split,
                            const std::string& name);

/// This rank's part of the sum of every rank's rows; added up in rank order, float32 at least.
at::Tensor sum_part_rows(Comm& ranks, const at::Tensor& all, const RowSplit& split,
                         const std::string& name);

/// This rank's rows under the cut `to` from those under the cut `from`.
at::Tensor move_part_rows(Comm& ranks, const at::Tensor& own, const RowSplit& from,
                          const RowSplit& to, const std::string& name);

}  // namespace gimbal
