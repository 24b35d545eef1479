// How rows that are picked out of a stream (image places, loss rows) lie in the parts of its cut.
#pragma once

#include <cstdint>
#include <vector>

#include "gimbal/nn/row_split.h"

namespace gimbal {

/// The cut of `num_places` places in which part p has those whose row is in part p of `rows`.
/// `places`: their rows on the host, ascending; not read when there is one part.
RowSplit split_places(const std::vector<std::int64_t>& places, std::int64_t num_places,
                      const RowSplit& rows);

}  // namespace gimbal
