// Pricing: the pattern of most value, by dynamic programming over a grid of what is used up.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace gimbal {

/// A pattern as a list of (type, count), ascending by type.
struct TypeCount {
  std::uint32_t type;
  std::uint32_t count;
  bool operator==(const TypeCount&) const = default;
};
using PatternColumn = std::vector<TypeCount>;

/// An unbounded knapsack in several dimensions over whole numbers. Values are whole numbers too, so
/// that what it finds is exact.
class Knapsack {
 public:
  /// `cells` [types * dims]: what one of each type uses; `caps` [dims]. Every type fits alone.
  Knapsack(std::vector<std::uint32_t> cells, std::vector<std::uint32_t> caps);

  /// Fills the table for the values (>= 0) of the types; returns the value of the best pattern.
  std::int64_t solve(std::span<const std::int32_t> values);
  /// The best value of a pattern that holds this type, and that pattern. After `solve`.
  std::int64_t value_with(std::uint32_t type) const;
  PatternColumn pattern_with(std::uint32_t type) const;

  std::size_t num_types() const { return values_.size(); }

 private:
  void relax(std::uint32_t type);

  std::vector<std::uint32_t> cells_;
  std::vector<std::uint32_t> caps_;
  std::vector<std::size_t> strides_;  // of the dims in the table; the last is 1
  std::vector<std::size_t> offsets_;  // per type, in the table
  std::vector<std::int32_t> values_;
  std::vector<std::int32_t> best_;  // per state: most value within it
};

}  // namespace gimbal
