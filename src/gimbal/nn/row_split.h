// How the rows of a stream are cut over the ranks that share a pack.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace gimbal {

/// Part p has the rows begins[p] .. begins[p + 1]. Parts may be empty.
struct RowSplit {
  std::vector<std::int64_t> begins;  // [parts + 1]
  int own = 0;                       // this rank's part

  int parts() const { return static_cast<int>(begins.size()) - 1; }
  std::int64_t total() const { return begins.back(); }
  std::int64_t begin(int part) const { return begins[static_cast<std::size_t>(part)]; }
  std::int64_t size(int part) const { return begin(part + 1) - begin(part); }
  std::int64_t own_begin() const { return begin(own); }
  std::int64_t own_size() const { return size(own); }
  bool operator==(const RowSplit&) const = default;
};

/// Cuts `total` rows into parts of whole units (of `unit` rows; it divides `total`) that differ by
/// at most one unit: part p begins at floor(p * units / parts).
RowSplit split_rows(std::int64_t total, int parts, int own, std::int64_t unit = 1);

/// Every `factor` parts joined to one, as part own / factor of this rank.
RowSplit join_parts(const RowSplit& split, int factor);

/// The `factor` parts that join_parts joins to this rank's one, with rows counted from its first.
RowSplit parts_within_own(const RowSplit& split, int factor);

}  // namespace gimbal
