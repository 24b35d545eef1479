// Local search on open packs: fewer packs by emptying the thin ones.
#pragma once

#include <cstdint>

#include "gimbal/balance/pack/open_packs.h"

namespace gimbal {

struct LocalSearchOptions {
  /// Packs that are tried, thinnest first.
  std::uint32_t attempts = 0;
  /// A swap must gain at least this share of a pack.
  double min_gain = 1.0 / 256;
  /// Item pairs and triples that are looked at before the search ends: a clock that is the same on
  /// every machine.
  std::uint64_t work = 0;
};

/// Takes the thinnest pack and moves its items into the gaps of the others; what has no gap is
/// swapped against smaller items (one against one, two against one, one against two) until it
/// empties or nothing helps, then the next thinnest. Never more packs than before. Returns the work
/// that was done.
std::uint64_t empty_thin_packs(OpenPacks& packs, LocalSearchOptions options);

}  // namespace gimbal
