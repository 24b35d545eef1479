#include "gimbal/balance/caps/cap_budget.h"

#include <algorithm>
#include <cmath>

namespace gimbal {

std::uint64_t rows_as_cap(double rows) {
  return static_cast<std::uint64_t>(std::clamp(std::floor(rows), 1.0, 0x1p62));
}

std::vector<std::uint64_t> share_budget(double bytes, std::span<const BudgetStream> streams) {
  std::vector<std::uint64_t> caps(streams.size(), 0);  // 0: not settled yet
  const auto share = [&](std::size_t k) {
    double demand = 0;
    for (std::size_t j = 0; j < streams.size(); ++j)
      if (caps[j] == 0) demand += streams[j].mean_rows * streams[j].bytes_per_row;
    return rows_as_cap(demand > 0 ? bytes / demand * streams[k].mean_rows : 0);
  };
  // A stream whose share is out of its range is settled at its end and the others share anew: first
  // those that need more than their share, then those that want less.
  const auto settle = [&](auto end_of) {
    for (std::size_t k = 0; k < streams.size();) {
      const std::uint64_t end = caps[k] == 0 ? end_of(k) : 0;
      if (end > 0) {
        caps[k] = end;
        bytes -= static_cast<double>(end) * streams[k].bytes_per_row;
      }
      k = end > 0 ? 0 : k + 1;
    }
  };
  settle([&](std::size_t k) { return share(k) <= streams[k].least ? streams[k].least : 0; });
  settle([&](std::size_t k) {
    return streams[k].most > 0 && share(k) >= streams[k].most ? streams[k].most : 0;
  });
  std::vector<std::uint64_t> shares(streams.size());
  for (std::size_t k = 0; k < streams.size(); ++k) shares[k] = caps[k] == 0 ? share(k) : caps[k];
  return shares;
}

}  // namespace gimbal
