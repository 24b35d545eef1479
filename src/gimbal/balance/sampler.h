// The global order of an epoch: steps of alike packs, a pure function of (sizes, options, seed,
// epoch).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "gimbal/balance/pack.h"
#include "gimbal/balance/sizes.h"

namespace gimbal {

enum class PackMethod { kGimbal, kRandom };

struct SamplerOptions {
  PackMethod method = PackMethod::kGimbal;
  PackCaps caps;
  std::vector<StreamCost> costs;     // per stream
  std::uint64_t packs_per_step = 1;  // of all ranks together
  std::uint64_t random_group = 0;    // kRandom: samples per pack
  std::uint64_t seed = 0;
  std::vector<std::uint32_t> sources;  // per sample; empty: all of source 0
  std::vector<double> source_weights;  // expected occurrences of each sample per epoch; empty: 1
};

/// What a packed epoch looks like; samples_in == samples_packed is asserted.
struct BalanceReport {
  std::uint64_t samples_in = 0;
  std::uint64_t samples_packed = 0;
  std::uint64_t packs = 0;
  std::uint64_t packs_lower_bound = 0;
  std::uint64_t steps = 0;
  std::vector<double> fill;  // per stream: rows / (packs * cap); 0 without a cap
  std::vector<double>
      waste;              // per stream, mean over full slots of 1 - mean / max over `ranks` packs
  double cost_waste = 0;  // the same of the cost
  double seconds = 0;
};

/// The order of one epoch. Packs of a step are alike in cost and sorted by it, so that consecutive
/// packs make an even slot for any number of ranks; the order of steps is random. The last step may
/// have fewer packs.
class EpochOrder {
 public:
  EpochOrder(Packs packs, std::vector<std::uint32_t> pack_order, std::uint64_t packs_per_step);

  std::uint64_t num_steps() const;
  std::uint64_t num_packs() const { return packs_.size(); }
  /// Number of packs of a step (packs_per_step but for the last step).
  std::uint64_t packs_in_step(std::uint64_t step) const;
  /// Samples of the i-th pack of the step; empty when i is past packs_in_step.
  std::span<const std::uint32_t> pack(std::uint64_t step, std::uint64_t i) const;

 private:
  Packs packs_;
  std::vector<std::uint32_t> pack_order_;
  std::uint64_t packs_per_step_;
};

/// Builds epochs on demand and keeps the last one. Any position (epoch, step) is reached in O(1)
/// after the epoch's packing.
class Sampler {
 public:
  /// The rows that `sizes` points to must outlive the sampler. Throws UserError for options that
  /// cannot work.
  Sampler(SampleSizes sizes, SamplerOptions options);

  const EpochOrder& epoch(std::uint64_t epoch);
  /// Fill, waste and bound of an epoch, as `ranks` ranks run it. Packs the epoch when it is not the
  /// last one asked for.
  BalanceReport report(std::uint64_t epoch, std::uint64_t ranks);

 private:
  SampleSizes sizes_;
  SamplerOptions options_;
  std::uint64_t cached_epoch_ = ~std::uint64_t{0};
  std::unique_ptr<EpochOrder> cached_;
  std::vector<std::uint32_t> cached_samples_;  // what the cached epoch was packed from
  double pack_seconds_ = 0;
};

/// Splits one pack into at most `count` micro-batches of consecutive samples with nearly equal
/// cost; 0: one sample each.
std::vector<std::vector<std::uint32_t>> split_pack(std::span<const std::uint32_t> pack,
                                                   std::int64_t count, const SampleSizes& sizes,
                                                   std::span<const StreamCost> costs);

}  // namespace gimbal
