// Types: groups of samples of like size.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "gimbal/balance/limits.h"

namespace gimbal {

/// A k-d tree over the demands; its leaves are the types. A sample belongs to exactly one type, and
/// no member of a type demands more than the type's `high`, or less than its `low`, as far as the
/// tree has seen it.
struct TypeTree {
  struct Node {
    std::int32_t limit;   // demand that is compared; -1: a leaf
    std::uint32_t left;   // node for demand <= threshold; the type of a leaf
    std::uint32_t right;  // node for larger demands
    std::uint64_t threshold;
  };
  std::vector<Node> nodes;
  int num_limits = 0;
  std::vector<std::uint64_t> low, high;  // [types * limits]

  std::size_t num_types() const {
    return num_limits == 0 ? 0 : high.size() / static_cast<std::size_t>(num_limits);
  }
  std::uint32_t type_of(const PackLimits& limits, std::uint32_t sample) const;
};

/// Splits the samples of `order` until there are `max_types` types or each holds samples of one
/// size only: always the type in which rounding up to the largest member wastes most, where that
/// saves most. Demands below `units` (per limit) apart count as equal.
TypeTree build_types(const PackLimits& limits, std::span<const std::uint32_t> order,
                     std::span<const std::uint64_t> units, std::size_t max_types);

/// Number of entries of each type, and the type of each entry.
struct TypedOrder {
  std::vector<std::uint16_t> types;   // [entries]
  std::vector<std::uint64_t> demand;  // [types]
};
TypedOrder type_samples(const TypeTree& tree, const PackLimits& limits,
                        std::span<const std::uint32_t> order);

/// How much larger the samples' volume (in packs, of the limit that needs most) becomes when each
/// is rounded up to its type's `high`, as a share. `demand`: the samples of `order` per type.
double rounding_loss(const TypeTree& tree, std::span<const std::uint64_t> demand,
                     const PackLimits& limits, std::span<const std::uint32_t> order);

}  // namespace gimbal
