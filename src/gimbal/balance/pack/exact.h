// The fewest packs for a handful of samples, proven.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "gimbal/balance/limits.h"
#include "gimbal/balance/packs.h"

namespace gimbal {

/// The most samples that the search is meant for.
inline constexpr std::size_t kMostExactSamples = 24;

/// Branch and bound over all packings with fewer than `known_packs` packs: the largest sample
/// first, into each open pack that differs from the others, or into a new one. Returns one with the
/// fewest, or nothing when there is none with fewer. `proven` is set to false when the search was
/// cut off after a number of steps (a fifth of a second); every entry must fit alone.
std::optional<Packs> exact_packs(const PackLimits& limits, std::span<const std::uint32_t> order,
                                 std::uint64_t known_packs, bool* proven = nullptr);

}  // namespace gimbal
