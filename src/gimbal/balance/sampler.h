// The global order of an epoch: steps of alike packs, a pure function of (sizes, options, seed,
// epoch).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "gimbal/balance/limits.h"
#include "gimbal/balance/packs.h"
#include "gimbal/balance/patterns/pattern_set.h"
#include "gimbal/balance/report.h"
#include "gimbal/balance/screen.h"
#include "gimbal/balance/sizes.h"

namespace gimbal {

/// kGimbal: patterns, or best fit in windows, arranged into slots. For comparison:
/// kBestFitDecreasing, arranged too; kIsf (OmniBal), kRandom and kLength (padded mini-batches) as
/// published, which is with their packs in a random order, so that the figures show what arranging
/// adds.
enum class PackMethod { kGimbal, kIsf, kBestFitDecreasing, kRandom, kLength };
/// Whether the method makes mini-batches of a fixed number of samples, which caps do not limit.
bool is_padded(PackMethod method);

struct SamplerOptions {
  PackMethod method = PackMethod::kGimbal;
  PackCaps caps;
  std::vector<StreamCost> costs;     // per stream
  std::uint64_t packs_per_step = 1;  // of all ranks together
  /// Packs that are made alike: what runs at the same time. 0: all packs of a step. Must divide
  /// packs_per_step. The order depends on these two and never on the number of ranks.
  std::uint64_t packs_per_slot = 0;
  std::uint64_t samples_per_group = 0;  // kRandom, kLength: samples per pack
  int length_stream = 0;                // kLength: the stream whose rows are the length
  int isf_rounds = 50;                  // kIsf
  OversizePolicy oversize = OversizePolicy::kError;
  std::uint64_t seed = 0;
  std::vector<std::uint32_t> sources;  // per sample; empty: all of source 0
  std::vector<double> source_weights;  // expected occurrences of each sample per epoch; empty: 1
  /// kGimbal: the solved patterns; null: solved on first use, see Sampler::patterns.
  std::shared_ptr<const PatternSet> patterns;
  PatternOptions pattern_options;
  /// Names a sample in messages; empty: "sample 12".
  std::function<std::string(std::uint32_t)> describe;
};

/// The order of one epoch. The packs of a slot are alike in cost; the order of slots is random. The
/// last step may have fewer packs, its last slot the cheapest ones.
class EpochOrder {
 public:
  EpochOrder(Packs packs, std::uint64_t packs_per_step);

  std::uint64_t num_steps() const;
  std::uint64_t num_packs() const { return packs_.size(); }
  /// Number of packs of a step (packs_per_step but for the last step).
  std::uint64_t packs_in_step(std::uint64_t step) const;
  /// Samples of the i-th pack of the step; empty when i is past packs_in_step.
  std::span<const std::uint32_t> pack(std::uint64_t step, std::uint64_t i) const;
  /// All packs in the order in which they are run.
  const Packs& packs() const { return packs_; }

 private:
  Packs packs_;
  std::uint64_t packs_per_step_;
};

/// Builds epochs on demand and keeps the last one. Any position (epoch, step) is reached in O(1)
/// after the epoch's packing.
class Sampler {
 public:
  /// The rows that `sizes` points to must outlive the sampler. Throws UserError for options that
  /// cannot work, and for samples that exceed a cap under OversizePolicy::kError.
  Sampler(SampleSizes sizes, SamplerOptions options);

  const EpochOrder& epoch(std::uint64_t epoch);
  /// Fill, waste and fast bound of an epoch, as `ranks` ranks run it. Packs the epoch when it is
  /// not the last one asked for.
  BalanceReport report(std::uint64_t epoch, std::uint64_t ranks);

  /// The patterns in use (kGimbal): those of the options, or else solved now for the samples of
  /// epoch 0, so that they do not depend on what was asked for first. Empty when the heuristic
  /// packs better, for fewer than 4,096 samples, and for other methods.
  std::shared_ptr<const PatternSet> patterns();
  const Screening& screening() const { return screening_; }
  const SamplerOptions& options() const { return options_; }
  /// Occurrences per source in the epoch at hand: exact counts of what was drawn, rejected samples
  /// left out.
  std::vector<std::uint64_t> source_counts(std::uint64_t epoch);

 private:
  struct Draw {
    std::vector<std::uint32_t> packed_together;  // in a random order
    std::vector<std::uint32_t> alone;
    std::vector<std::uint64_t> source_counts;
    std::uint64_t rejected = 0;
  };
  Draw draw(std::uint64_t epoch) const;
  Packs pack(std::uint64_t epoch, const Draw& drawn);

  SampleSizes sizes_;
  SamplerOptions options_;
  std::optional<PackLimits> limits_;  // none: a method without caps
  Screening screening_;
  std::shared_ptr<const PatternSet> patterns_;
  std::uint64_t cached_epoch_ = ~std::uint64_t{0};
  std::unique_ptr<EpochOrder> cached_;
  std::vector<std::uint64_t> cached_source_counts_;
  std::uint64_t cached_drawn_ = 0;     // occurrences, rejected ones left out
  std::uint64_t cached_rejected_ = 0;  // occurrences of rejected samples
  double pack_seconds_ = 0;
};

}  // namespace gimbal
