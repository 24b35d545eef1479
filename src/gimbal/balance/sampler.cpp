#include "gimbal/balance/sampler.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "gimbal/balance/arrange/arrange.h"
#include "gimbal/balance/bound/fast.h"
#include "gimbal/balance/pack/methods.h"
#include "gimbal/base/error.h"
#include "gimbal/base/rng.h"

namespace gimbal {
namespace {

// For fewer samples than this the heuristic is near the bound and at once.
constexpr std::size_t kFewSamples = 4096;
constexpr double kHighestCost = 0x1p900;
constexpr std::uint8_t kRejected = 1, kAlone = 2;  // fates of a Screening

bool has_cap(const PackCaps& caps) {
  return caps.samples > 0 || caps.cost > 0 ||
         std::any_of(caps.rows.begin(), caps.rows.end(), [](std::uint64_t cap) { return cap > 0; });
}

std::uint64_t slot_packs(const SamplerOptions& options) {
  return options.packs_per_slot == 0 ? options.packs_per_step : options.packs_per_slot;
}

void shuffle(std::vector<std::uint32_t>& samples, const CounterRng& rng) {
  for (std::size_t i = samples.size(); i > 1; --i)
    std::swap(samples[i - 1], samples[rng.below(i, i)]);
}

Packs in_random_order(const Packs& packs, const CounterRng& rng) {
  Packs out;
  out.samples.reserve(packs.samples.size());
  out.offsets.reserve(packs.offsets.size());
  for (const std::uint32_t p : random_permutation(static_cast<std::uint32_t>(packs.size()), rng))
    out.add(packs[p]);
  return out;
}

// Each kind of choice draws from its own numbers, so that a change of one leaves the others alone.
CounterRng rng_for(const SamplerOptions& options, std::uint64_t epoch, const char* use) {
  return CounterRng(options.seed, mix_bits(epoch) ^ hash_name(use));
}

void check_steps(const SamplerOptions& options) {
  GIMBAL_USER_CHECK(options.packs_per_step > 0,
                    "balance.packs_per_step is 0; it must be at least 1");
  GIMBAL_USER_CHECK(options.packs_per_step % slot_packs(options) == 0, "balance.packs_per_slot is ",
                    options.packs_per_slot, ", which does not divide balance.packs_per_step (",
                    options.packs_per_step, "); a step is a whole number of slots");
}

void check_weights(const SampleSizes& sizes, const SamplerOptions& options) {
  double expected = 0;
  for (std::size_t source = 0; source < options.source_weights.size(); ++source) {
    const double weight = options.source_weights[source];
    GIMBAL_USER_CHECK(std::isfinite(weight) && weight >= 0, "source ", source, ": its weight is ",
                      weight, "; it must be a number of at least 0");
  }
  for (std::size_t sample = 0; sample < sizes.num_samples(); ++sample) {
    const std::size_t source = options.sources.empty() ? 0 : options.sources[sample];
    GIMBAL_CHECK(source < options.source_weights.size(), "sample ", sample, " is of source ",
                 source, " of ", options.source_weights.size());
    expected += std::ceil(options.source_weights[source]);
  }
  GIMBAL_USER_CHECK(expected < static_cast<double>(std::numeric_limits<std::uint32_t>::max()),
                    "the source weights ask for about ", expected, " samples in an epoch; at most ",
                    std::numeric_limits<std::uint32_t>::max(), " are possible, lower the weights");
}

// Sums of costs are compared; one that is not a number would compare as anything.
void check_costs(const SampleSizes& sizes, const SamplerOptions& options) {
  double total = 0;
  for (std::size_t sample = 0; sample < sizes.num_samples(); ++sample)
    total += sample_cost(sizes, sample, options.costs);
  GIMBAL_USER_CHECK(total < kHighestCost, "balance: the samples' costs add up to ", total,
                    ", too much to count with; give the cost coefficients in a larger unit");
}

void check_options(const SampleSizes& sizes, const SamplerOptions& options) {
  GIMBAL_CHECK(sizes.num_streams > 0, "samples without streams");
  GIMBAL_CHECK_EQ(sizes.rows.size() % static_cast<std::size_t>(sizes.num_streams), std::size_t{0},
                  "rows");
  GIMBAL_CHECK(sizes.num_samples() < std::numeric_limits<std::uint32_t>::max(), "",
               sizes.num_samples(), " samples");
  GIMBAL_CHECK_EQ(options.costs.size(), static_cast<std::size_t>(sizes.num_streams),
                  "costs and streams");
  GIMBAL_CHECK(options.sources.empty() || options.sources.size() == sizes.num_samples(),
               "sources of ", options.sources.size(), " samples of ", sizes.num_samples());
  GIMBAL_CHECK(options.length_stream >= 0 && options.length_stream < sizes.num_streams,
               "length stream ", options.length_stream, " of ", sizes.num_streams);
  check_steps(options);
  check_costs(sizes, options);
  if (!options.source_weights.empty()) check_weights(sizes, options);
}

}  // namespace

bool is_padded(PackMethod method) {
  return method == PackMethod::kRandom || method == PackMethod::kLength;
}

EpochOrder::EpochOrder(Packs packs, std::uint64_t packs_per_step)
    : packs_(std::move(packs)), packs_per_step_(packs_per_step) {
  GIMBAL_CHECK(packs_per_step_ > 0, "a step of no packs");
}

std::uint64_t EpochOrder::num_steps() const {
  return packs_.size() == 0 ? 0 : (packs_.size() - 1) / packs_per_step_ + 1;
}

std::uint64_t EpochOrder::packs_in_step(std::uint64_t step) const {
  GIMBAL_CHECK(step < num_steps(), "step ", step, " of ", num_steps());
  return std::min<std::uint64_t>(packs_per_step_, packs_.size() - step * packs_per_step_);
}

std::span<const std::uint32_t> EpochOrder::pack(std::uint64_t step, std::uint64_t i) const {
  if (i >= packs_in_step(step)) return {};
  return packs_[step * packs_per_step_ + i];
}

Sampler::Sampler(SampleSizes sizes, SamplerOptions options)
    : sizes_(sizes), options_(std::move(options)), patterns_(options_.patterns) {
  check_options(sizes_, options_);
  if (is_padded(options_.method)) {
    // Caps do not apply; with any, the report can name their bound.
    if (has_cap(options_.caps)) limits_.emplace(sizes_, options_.caps, options_.costs);
  } else {
    limits_.emplace(sizes_, options_.caps, options_.costs);
    screening_ = screen_samples(*limits_, options_.oversize, options_.describe);
  }
  GIMBAL_USER_CHECK(
      options_.method != PackMethod::kGimbal || patterns_ == nullptr || patterns_->fits(*limits_),
      "balance: the patterns were solved for other streams, caps or costs; solve "
      "them anew, or remove the pattern file");
}

// floor(weight) times each sample, and once more with probability frac(weight).
Sampler::Draw Sampler::draw(std::uint64_t epoch) const {
  const CounterRng rng = rng_for(options_, epoch, "weights");
  Draw drawn;
  drawn.packed_together.reserve(sizes_.num_samples());
  const std::size_t sources =
      options_.sources.empty()
          ? 1
          : std::size_t{*std::max_element(options_.sources.begin(), options_.sources.end())} + 1;
  drawn.source_counts.resize(std::max(sources, options_.source_weights.size()));
  for (std::uint32_t sample = 0; sample < sizes_.num_samples(); ++sample) {
    const std::size_t source = options_.sources.empty() ? 0 : options_.sources[sample];
    std::size_t times = 1;
    if (!options_.source_weights.empty()) {
      const double weight = options_.source_weights[source];
      const double whole = std::floor(weight);
      times = static_cast<std::size_t>(whole) + (rng.uniform(sample) < weight - whole ? 1 : 0);
    }
    const std::uint8_t fate = screening_.fate.empty() ? 0 : screening_.fate[sample];
    if (fate == kRejected) {
      drawn.rejected += times;
      continue;
    }
    drawn.source_counts[source] += times;
    auto& target = fate == kAlone ? drawn.alone : drawn.packed_together;
    target.insert(target.end(), times, sample);
  }
  shuffle(drawn.packed_together, rng_for(options_, epoch, "order"));
  return drawn;
}

std::shared_ptr<const PatternSet> Sampler::patterns() {
  if (patterns_ != nullptr) return patterns_;
  patterns_ = std::make_shared<const PatternSet>();
  if (options_.method != PackMethod::kGimbal) return patterns_;
  const Draw first = draw(0);
  patterns_ = std::make_shared<const PatternSet>(
      first.packed_together.size() < kFewSamples
          ? no_patterns(*limits_)
          : solve_patterns(*limits_, first.packed_together, options_.pattern_options));
  return patterns_;
}

Packs Sampler::pack(std::uint64_t epoch, const Draw& drawn) {
  const std::vector<std::uint32_t>& order = drawn.packed_together;
  const auto pack_together = [&] {
    switch (options_.method) {
      case PackMethod::kGimbal:
        return patterns_->empty() ? window_packs(*limits_, order)
                                  : pattern_packs(*patterns_, *limits_, order);
      case PackMethod::kBestFitDecreasing:
        return best_fit_decreasing_packs(*limits_, order);
      case PackMethod::kIsf:
        return isf_packs(*limits_, {options_.isf_rounds, {}}, order,
                         rng_for(options_, epoch, "isf"));
      case PackMethod::kRandom:
        return random_packs(order, options_.samples_per_group);
      case PackMethod::kLength:
        return length_packs(sizes_, options_.length_stream, order, options_.samples_per_group);
    }
    throw InternalError("a packing method without a packer");
  };
  Packs packs = pack_together();
  for (const std::uint32_t& sample : drawn.alone) packs.add({&sample, 1});
  const CounterRng rng = rng_for(options_, epoch, "steps");
  const bool arranged =
      options_.method == PackMethod::kGimbal || options_.method == PackMethod::kBestFitDecreasing;
  if (!arranged) return in_random_order(packs, rng);
  arrange_packs(packs, *limits_, options_.costs, options_.sources, slot_packs(options_), rng);
  return packs;
}

const EpochOrder& Sampler::epoch(std::uint64_t epoch) {
  if (cached_ != nullptr && cached_epoch_ == epoch) return *cached_;
  cached_.reset();  // two epochs need not fit into memory
  patterns();
  const auto start = std::chrono::steady_clock::now();
  const Draw drawn = draw(epoch);
  cached_ = std::make_unique<EpochOrder>(pack(epoch, drawn), options_.packs_per_step);
  cached_epoch_ = epoch;
  cached_source_counts_ = drawn.source_counts;
  cached_drawn_ = drawn.packed_together.size() + drawn.alone.size();
  cached_rejected_ = drawn.rejected;
  pack_seconds_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return *cached_;
}

std::vector<std::uint64_t> Sampler::source_counts(std::uint64_t epoch) {
  this->epoch(epoch);
  return cached_source_counts_;
}

BalanceReport Sampler::report(std::uint64_t epoch, std::uint64_t ranks) {
  const EpochOrder& order = this->epoch(epoch);
  BalanceReport report =
      measure_balance({.packs = order.packs(),
                       .sizes = sizes_,
                       .costs = options_.costs,
                       .caps = options_.caps,
                       .sources = options_.sources,
                       .ranks = ranks,
                       .packs_per_step = options_.packs_per_step,
                       .padded_stream = is_padded(options_.method) ? options_.length_stream : -1,
                       .seed = options_.seed});
  report.samples_in = cached_drawn_ + cached_rejected_;
  report.samples_rejected = cached_rejected_;
  GIMBAL_CHECK_EQ(report.samples_in, report.samples_packed + report.samples_rejected,
                  "samples in, and packed or rejected");
  if (limits_) report.packs_lower_bound = fast_lower_bound(*limits_, order.packs().samples);
  report.seconds = pack_seconds_;
  return report;
}

}  // namespace gimbal
