// Exchanging samples of equal size between slots until each slot's sources are mixed like all.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "gimbal/balance/packs.h"
#include "gimbal/balance/sizes.h"
#include "gimbal/base/rng.h"

namespace gimbal {

/// The sources that are told apart when slots are mixed: the largest ones have a class each, the
/// others share one.
class SourceClasses {
 public:
  /// `sources`: per sample; empty = all alike. Counts the samples of `packs`.
  SourceClasses(const Packs& packs, std::span<const std::uint32_t> sources);

  std::size_t count() const { return shares_.size(); }
  std::size_t of(std::uint32_t sample) const {
    return sources_.empty() ? 0 : class_of_source_[sources_[sample]];
  }
  /// Share of all samples.
  double share(std::size_t source_class) const { return shares_[source_class]; }

 private:
  std::span<const std::uint32_t> sources_;
  std::vector<std::uint8_t> class_of_source_;
  std::vector<double> shares_;
};

/// `packs` are arranged: consecutive `packs_per_slot` form a slot; an incomplete last slot is left
/// alone. Samples that are equal in every stream change places where that brings the sources of
/// their slots nearer to the whole's. What a pack weighs and holds of each size stays the same.
/// Linear.
void mix_sources(Packs& packs, const SampleSizes& sizes, const SourceClasses& classes,
                 std::uint64_t packs_per_slot, const CounterRng& rng);

}  // namespace gimbal
