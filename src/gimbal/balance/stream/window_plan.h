// Which packs leave a window of samples, and in which order.
#pragma once

#include <cstdint>
#include <span>

#include "gimbal/balance/limits.h"
#include "gimbal/balance/packs.h"
#include "gimbal/balance/sizes.h"
#include "gimbal/balance/stream/batch_packs.h"
#include "gimbal/base/rng.h"

namespace gimbal {

/// The samples of a window, numbered in the order in which they arrived.
struct StreamWindow {
  const PackLimits& limits;  // over the window's samples
  std::span<const StreamCost> costs;
  std::span<const std::uint8_t> alone;       // per sample: 1 = its own pack, whatever the caps
  std::span<const std::uint64_t> overtaken;  // per sample: later ones that have left before it
  std::uint64_t packs_per_slot;
  std::uint64_t patience;  // a sample that stays is overtaken by no more than these
  bool last;               // no more samples come: all leave
  PackWay way;             // see best_window_way
};

/// The way to pack that suits the window best.
PackWay best_window_way(const StreamWindow& window, const CounterRng& rng);

/// Packs the window and arranges what leaves into slots of `packs_per_slot` packs: all but the
/// thinnest packs, and those that fill no slot. These stay and meet later samples; they are made of
/// samples that arrived last. Only when `last`, the last slot may have fewer packs. Something
/// leaves from every window of at least packs_per_slot samples; one too small for a slot of full
/// packs gives thinner ones.
Packs plan_window(const StreamWindow& window, const CounterRng& rng);

}  // namespace gimbal
