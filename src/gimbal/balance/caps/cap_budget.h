// Caps that share a memory budget.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace gimbal {

/// A stream that wants a share: bytes of a row, mean rows of a sample, the least cap that holds the
/// largest sample, and the highest cap that is wanted (0: any).
struct BudgetStream {
  double bytes_per_row;
  double mean_rows;
  std::uint64_t least;
  std::uint64_t most;
};

/// A number of rows as a cap: rounded down, at least 1 (0 would mean no cap), at most 2^62.
std::uint64_t rows_as_cap(double rows);

/// A cap per stream, so that all are reached at the same number of mean samples as far as `least`
/// and `most` allow; sum of cap * bytes_per_row <= bytes. The bytes must suffice for every `least`.
std::vector<std::uint64_t> share_budget(double bytes, std::span<const BudgetStream> streams);

}  // namespace gimbal
