// Batch caps that are worth trying.
#pragma once

#include <memory>
#include <vector>

#include "gimbal/plan/packed_work.h"
#include "gimbal/plan/planner.h"

namespace gimbal {

/// The given caps, or (with the pass "caps") text caps of powers of two from the largest sample up
/// to a fourth of a step's samples, each with the vision cap that is reached at the same number of
/// mean samples; without the pass 4096 alone. Every cap holds the largest sample, unless it is
/// given: then UserError that names the sample.
std::vector<PackCaps> cap_candidates(const PlanInput& input);

/// Caps around the given ones that hold the largest sample: both changed by a
/// fourth, or less vision or more text by an eighth.
std::vector<PackCaps> nearby_caps(const PlanInput& input, const PackCaps& caps);

/// Packs of a few thousand of the samples, in some milliseconds: for comparing candidates.
PackedWork estimate_packs(const PlanInput& input, const PackCaps& caps);

/// All samples, packed as training will; from the input's memo when it has them.
std::shared_ptr<const PackedWork> pack_all(const PlanInput& input, const PackCaps& caps,
                                           std::uint64_t packs_per_step);

}  // namespace gimbal
