// Packing: samples into packs under caps.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "gimbal/balance/sizes.h"

namespace gimbal {

/// Packs as one array: pack p holds samples[offsets[p] .. offsets[p+1]).
struct Packs {
  std::vector<std::uint64_t> offsets{0};
  std::vector<std::uint32_t> samples;

  std::size_t size() const { return offsets.size() - 1; }
  std::span<const std::uint32_t> operator[](std::size_t p) const {
    return {samples.data() + offsets[p], static_cast<std::size_t>(offsets[p + 1] - offsets[p])};
  }
};

/// Packs the samples listed in `order` (sample numbers; a number may occur more than once for
/// up-sampled sources). Every entry is in exactly one pack and no cap is exceeded. A pure function
/// of its arguments: the companions of a sample come from its surroundings in `order`. Linear apart
/// from a search among the open packs. Throws UserError when no cap is set, and one that lists the
/// samples that exceed a cap on their own.
Packs pack_samples(const SampleSizes& sizes, const PackCaps& caps,
                   std::span<const std::uint32_t> order);

/// Fixed groups of `group_size` samples in the given order (the usual random mini-batches), for
/// comparison. Caps do not apply.
Packs random_packs(std::span<const std::uint32_t> order, std::uint64_t group_size);

/// Lower bound on the number of packs: the largest over the streams of total rows / cap, and of
/// what follows from samples of which no two, no three, ... can share a pack. 0 for an empty order.
std::uint64_t packs_lower_bound(const SampleSizes& sizes, const PackCaps& caps,
                                std::span<const std::uint32_t> order);

}  // namespace gimbal
