#include "gimbal/models/place_split.h"

#include <algorithm>

#include "gimbal/base/error.h"

namespace gimbal {

RowSplit split_places(const std::vector<std::int64_t>& places, std::int64_t num_places,
                      const RowSplit& rows) {
  if (rows.parts() == 1) return {{0, num_places}, 0};
  GIMBAL_CHECK_EQ(static_cast<std::int64_t>(places.size()), num_places,
                  "the batch needs its rows on the host: keep_rows_on_host");
  GIMBAL_CHECK(std::is_sorted(places.begin(), places.end()), "rows are not in ascending order");
  RowSplit split;
  split.own = rows.own;
  for (const std::int64_t begin : rows.begins)
    split.begins.push_back(std::lower_bound(places.begin(), places.end(), begin) - places.begin());
  return split;
}

}  // namespace gimbal
