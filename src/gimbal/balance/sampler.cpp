#include "gimbal/balance/sampler.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "gimbal/balance/arrange.h"
#include "gimbal/base/error.h"
#include "gimbal/base/rng.h"

namespace gimbal {
namespace {

double weight_of(const SamplerOptions& options, std::size_t sample) {
  if (options.source_weights.empty()) return 1.0;
  return options.source_weights[options.sources.empty() ? 0 : options.sources[sample]];
}

// Sample numbers of an epoch, ascending: floor(weight) times each, and once more with probability
// frac(weight).
std::vector<std::uint32_t> draw_samples(const SampleSizes& sizes, const SamplerOptions& options,
                                        const CounterRng& rng) {
  std::vector<std::uint32_t> drawn;
  drawn.reserve(sizes.num_samples());
  for (std::size_t sample = 0; sample < sizes.num_samples(); ++sample) {
    const double weight = weight_of(options, sample);
    const double whole = std::floor(weight);
    const auto times =
        static_cast<std::size_t>(whole) + (rng.uniform(sample) < weight - whole ? 1 : 0);
    drawn.insert(drawn.end(), times, static_cast<std::uint32_t>(sample));
  }
  return drawn;
}

std::vector<std::uint32_t> shuffled(const std::vector<std::uint32_t>& samples,
                                    const CounterRng& rng) {
  std::vector<std::uint32_t> order =
      random_permutation(static_cast<std::uint32_t>(samples.size()), rng);
  for (std::uint32_t& entry : order) entry = samples[entry];
  return order;
}

// Each kind of choice draws from its own numbers, so that a change of one leaves the others alone.
CounterRng rng_for(const SamplerOptions& options, std::uint64_t epoch, const char* use) {
  return CounterRng(options.seed, mix_bits(epoch) ^ hash_name(use));
}

void check_options(const SampleSizes& sizes, const SamplerOptions& options) {
  GIMBAL_CHECK(sizes.num_streams > 0, "samples without streams");
  GIMBAL_CHECK_EQ(sizes.rows.size() % static_cast<std::size_t>(sizes.num_streams), std::size_t{0},
                  "rows");
  GIMBAL_CHECK_EQ(options.costs.size(), static_cast<std::size_t>(sizes.num_streams),
                  "costs and streams");
  GIMBAL_CHECK(options.sources.empty() || options.sources.size() == sizes.num_samples(),
               "sources of ", options.sources.size(), " samples of ", sizes.num_samples());
  GIMBAL_USER_CHECK(options.packs_per_step > 0,
                    "balance.packs_per_step is 0; it must be at least 1");
  if (options.source_weights.empty()) return;
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

}  // namespace

EpochOrder::EpochOrder(Packs packs, std::vector<std::uint32_t> pack_order,
                       std::uint64_t packs_per_step)
    : packs_(std::move(packs)),
      pack_order_(std::move(pack_order)),
      packs_per_step_(packs_per_step) {
  GIMBAL_CHECK(packs_per_step_ > 0);
  GIMBAL_CHECK_EQ(packs_.size(), pack_order_.size(), "packs and their order");
}

std::uint64_t EpochOrder::num_steps() const {
  return (packs_.size() + packs_per_step_ - 1) / packs_per_step_;
}

std::uint64_t EpochOrder::packs_in_step(std::uint64_t step) const {
  GIMBAL_CHECK(step < num_steps(), "step ", step, " of ", num_steps());
  return std::min(packs_per_step_, packs_.size() - step * packs_per_step_);
}

std::span<const std::uint32_t> EpochOrder::pack(std::uint64_t step, std::uint64_t i) const {
  if (i >= packs_in_step(step)) return {};
  return packs_[pack_order_[step * packs_per_step_ + i]];
}

Sampler::Sampler(SampleSizes sizes, SamplerOptions options)
    : sizes_(sizes), options_(std::move(options)) {
  check_options(sizes_, options_);
}

const EpochOrder& Sampler::epoch(std::uint64_t epoch) {
  if (cached_ != nullptr && cached_epoch_ == epoch) return *cached_;
  const auto start = std::chrono::steady_clock::now();
  cached_.reset();  // two epochs need not fit into memory
  cached_samples_ = shuffled(draw_samples(sizes_, options_, rng_for(options_, epoch, "weights")),
                             rng_for(options_, epoch, "order"));
  Packs packs;
  std::vector<std::uint32_t> order;
  if (options_.method == PackMethod::kRandom) {
    packs = random_packs(cached_samples_, options_.random_group);
    order.resize(packs.size());
    std::iota(order.begin(), order.end(), 0U);
  } else {
    packs = pack_samples(sizes_, options_.caps, cached_samples_);
    order = arrange_alike(pack_costs(packs, sizes_, options_.costs), sizes_.num_streams,
                          options_.packs_per_step, rng_for(options_, epoch, "steps"));
  }
  cached_ =
      std::make_unique<EpochOrder>(std::move(packs), std::move(order), options_.packs_per_step);
  cached_epoch_ = epoch;
  pack_seconds_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return *cached_;
}

}  // namespace gimbal
