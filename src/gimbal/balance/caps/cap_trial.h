// What packs under some caps would take: the prediction behind choose_cap.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "gimbal/balance/limits.h"
#include "gimbal/balance/packs.h"
#include "gimbal/balance/sizes.h"

namespace gimbal {

/// Packs a few thousand samples in about a millisecond: the fewest packs of two fitted fills
/// without local search. Within about 1 % of window_packs.
Packs quick_packs(const PackLimits& limits, std::span<const std::uint32_t> order);

/// How packs take time; see choose_cap.
struct PackTimeModel {
  std::vector<StreamCost> costs;  // per stream
  double overhead = 0;            // of a pack
  bool phases_in_parallel = true;
  std::uint64_t ranks = 1;
};

/// T(p) of every pack.
std::vector<double> pack_times(const Packs& packs, const SampleSizes& sizes,
                               const PackTimeModel& model);

/// Mean over slots of the slowest pack when `packs` packs whose times are distributed like `times`
/// are sorted and cut into slots of `ranks`: the upper ends of equal pieces of the sorted times.
double mean_slot_time(std::vector<double> times, double packs, std::uint64_t ranks);

}  // namespace gimbal
