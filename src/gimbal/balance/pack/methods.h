// The packing methods that place samples one by one, and the published ones for comparison.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "gimbal/balance/limits.h"
#include "gimbal/balance/packs.h"
#include "gimbal/base/rng.h"

// `order` is the samples to pack, in a random order; a number may occur more than once (up-sampled
// sources). Every entry ends in exactly one pack. But for the padded methods no cap is exceeded;
// an entry that does not fit alone is an InternalError (screen_samples comes first).
namespace gimbal {

/// The general heuristic, for any number of limits and any sizes. Windows of the order are filled
/// and their thin packs emptied by local search; the way of filling is chosen by trial on the head
/// of the order. Up to 2,048 entries a thorough search takes its place, optimal on nearly all
/// inputs that brute force can check. New companions for every order. Linear in the number of
/// entries: about a microsecond each for large inputs, up to some 50 for small ones.
Packs window_packs(const PackLimits& limits, std::span<const std::uint32_t> order);

/// Best fit decreasing over all samples: the largest first (sum over the limits of demand / cap),
/// each into the fullest pack that has room (where very many packs are as full to 2^-16 of a pack,
/// into one of these). The classical heuristic, for comparison.
Packs best_fit_decreasing_packs(const PackLimits& limits, std::span<const std::uint32_t> order);

/// OmniBal's iterative sampling and filtering (arXiv 2407.20761, Algorithm 1).
struct IsfOptions {
  int rounds = 50;
  /// Per limit: a pack is accepted when one of its totals reaches this. 0: as published for streams
  /// of few rows: the cap itself (vision), and cap - 128 where the cap is at least 1,024 (tokens).
  std::vector<std::uint64_t> accept;
};
/// Next fit over the shuffled pool; packs that reach a threshold are accepted, the others' samples
/// go back to the pool; after `rounds` rounds what is left is emitted unfiltered, next fit. Stops
/// early when the pool is empty. With 0 rounds, next fit in the given order. Throws UserError for a
/// negative number of rounds and for a threshold above its cap. Defects of the public
/// implementation that are not reproduced are listed in isf.cpp.
Packs isf_packs(const PackLimits& limits, const IsfOptions& options,
                std::span<const std::uint32_t> order, const CounterRng& rng);

/// Fixed groups of `group_size` samples in the given order: the usual random mini-batches. Caps do
/// not apply.
Packs random_packs(std::span<const std::uint32_t> order, std::uint64_t group_size);

/// Length-grouped mini-batches: the order is cut into mega-batches of 50 groups, each sorted by
/// length (rows of `stream`, longest first) and cut into groups. Caps do not apply.
Packs length_packs(const SampleSizes& sizes, int stream, std::span<const std::uint32_t> order,
                   std::uint64_t group_size);

}  // namespace gimbal
