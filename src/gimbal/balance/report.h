// What a packed and arranged epoch looks like: the figures of docs/balance.md.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "gimbal/balance/packs.h"
#include "gimbal/balance/sizes.h"

namespace gimbal {

/// samples_in == samples_packed + samples_rejected is asserted.
struct BalanceReport {
  std::uint64_t samples_in = 0;  // occurrences: a sample of weight 2 counts twice
  std::uint64_t samples_packed = 0;
  std::uint64_t samples_rejected = 0;
  std::uint64_t packs = 0;
  std::uint64_t packs_lower_bound = 0;  // 0: not known
  std::uint64_t steps = 0;
  /// Of `ranks` packs within a step; the incomplete one at a step's end is included here and counts
  /// nowhere else. With fewer packs in a step than ranks there is no full slot.
  std::uint64_t slots = 0;
  std::vector<double> fill;  // per stream: rows / (packs * cap); 0 without a cap
  /// Per stream: mean over the full slots of 1 - mean / max of the ranks' rows.
  std::vector<double> waste;
  double cost_waste = 0;  // the same of the cost
  /// Pearson correlation of slot index and slot cost over the full slots; 0 for fewer than 3.
  double order_correlation = 0;
  /// Mean over full slots of the total-variation distance between the slot's sources and the data
  /// set's, by samples, divided by the same of the packs in a random order (mean of three). 1 when
  /// a random order has none, as with one source.
  double source_mix_ratio = 1;
  /// As OmniBal defines them (arXiv 2407.20761): the share of padding in mini-batches that are
  /// padded to their longest sample in `padded_stream` (0 for packs, which are not padded), and per
  /// stream the mean over slots of sum(max - value) / (max * ranks), where a padded mini-batch
  /// counts as its padded size.
  double pad_ratio = 0;
  std::vector<double> dist_ratio;
  double seconds = 0;  // packing and arranging
};

struct ReportInput {
  const Packs& packs;  // in the order in which they are run
  const SampleSizes& sizes;
  std::span<const StreamCost> costs;
  const PackCaps& caps;
  std::span<const std::uint32_t> sources;  // per sample; empty: one source
  std::uint64_t ranks = 1;
  std::uint64_t packs_per_step = 1;
  int padded_stream = -1;  // >= 0: the packs are mini-batches padded in this stream
  std::uint64_t seed = 0;  // of the random order that source_mix_ratio compares with
};

/// Linear in the number of samples. Fills everything but samples_in, samples_rejected,
/// packs_lower_bound and seconds.
BalanceReport measure_balance(const ReportInput& input);

}  // namespace gimbal
