// Properties of every epoch, whatever the sizes. A failure prints the seed that repeats it.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>

#include "gimbal/balance/sampler.h"
#include "unit/balance/sample_sets.h"

namespace gimbal {
namespace {

using testing::SampleSet;

// Any number of samples with any rows in 1 to 8 streams, and caps that each sample keeps.
SampleSet any_samples() {
  SampleSet set;
  set.num_streams = *rc::gen::inRange(1, 9);
  const auto num_samples = *rc::gen::inRange<std::size_t>(0, 400);
  const auto most = *rc::gen::element<std::uint32_t>(1, 7, 1000, 100000);
  const bool all_equal = *rc::gen::arbitrary<bool>();
  const CounterRng rng(*rc::gen::arbitrary<std::uint64_t>());
  const auto streams = static_cast<std::size_t>(set.num_streams);
  for (std::size_t i = 0; i < num_samples * streams; ++i) {
    set.rows.push_back(
        static_cast<std::uint32_t>(rng.below(all_equal ? i % streams : i, most + 1)));
  }
  bool any = false;
  for (std::size_t k = 0; k < streams; ++k) {
    const bool capped = *rc::gen::arbitrary<bool>() || (k + 1 == streams && !any);
    set.caps.rows.push_back(
        capped ? *rc::gen::inRange<std::uint64_t>(most, std::uint64_t{4} * most + 1) : 0);
    any = any || capped;
  }
  set.caps.samples = *rc::gen::element<std::uint64_t>(0, 0, 1, 5);
  return set;
}

SamplerOptions any_options(const SampleSet& set) {
  SamplerOptions options;
  options.caps = set.caps;
  for (int k = 0; k < set.num_streams; ++k)
    options.costs.push_back({1.0 + k, k % 2 == 0 ? 0.0 : 0.01});
  options.packs_per_step = *rc::gen::inRange<std::uint64_t>(1, 20);
  if (*rc::gen::arbitrary<bool>()) options.packs_per_slot = 1;
  if (options.packs_per_step % 2 == 0 && *rc::gen::arbitrary<bool>()) options.packs_per_slot = 2;
  options.seed = *rc::gen::arbitrary<std::uint64_t>();
  if (*rc::gen::arbitrary<bool>()) {
    const auto sources = *rc::gen::inRange<std::uint32_t>(1, 20);
    for (std::uint32_t i = 0; i < set.sizes().num_samples(); ++i)
      options.sources.push_back(static_cast<std::uint32_t>(mix_bits(i) % sources));
  }
  return options;
}

std::vector<std::vector<std::uint32_t>> packs_of(const EpochOrder& order) {
  std::vector<std::vector<std::uint32_t>> all;
  for (std::uint64_t step = 0; step < order.num_steps(); ++step) {
    for (std::uint64_t i = 0; i < order.packs_in_step(step); ++i) {
      const auto pack = order.pack(step, i);
      all.emplace_back(pack.begin(), pack.end());
    }
  }
  return all;
}

RC_GTEST_PROP(SamplerProperty, EverySampleOnceAndNoCapExceeded, ()) {
  const SampleSet set = any_samples();
  Sampler sampler(set.sizes(), any_options(set));
  const auto packs = packs_of(sampler.epoch(*rc::gen::inRange<std::uint64_t>(0, 5)));
  std::vector<int> times(set.sizes().num_samples());
  for (const auto& pack : packs) {
    RC_ASSERT(!pack.empty());
    RC_ASSERT(set.caps.samples == 0 || pack.size() <= set.caps.samples);
    for (int k = 0; k < set.num_streams; ++k) {
      std::uint64_t rows = 0;
      for (const std::uint32_t sample : pack) rows += set.sizes().at(sample, k);
      const std::uint64_t cap = set.caps.rows[static_cast<std::size_t>(k)];
      RC_ASSERT(cap == 0 || rows <= cap);
    }
    for (const std::uint32_t sample : pack) ++times[sample];
  }
  RC_ASSERT(std::all_of(times.begin(), times.end(), [](int n) { return n == 1; }));
}

RC_GTEST_PROP(SamplerProperty, WeightsGiveTheCountsThatAreReported, ()) {
  const SampleSet set = any_samples();
  SamplerOptions options = any_options(set);
  const auto sources = *rc::gen::inRange<std::uint32_t>(1, 5);
  options.sources.clear();
  for (std::uint32_t i = 0; i < set.sizes().num_samples(); ++i)
    options.sources.push_back(*rc::gen::inRange<std::uint32_t>(0, sources));
  for (std::uint32_t source = 0; source < sources; ++source)
    options.source_weights.push_back(0.25 * *rc::gen::inRange(0, 12));
  Sampler sampler(set.sizes(), options);
  const auto epoch = *rc::gen::inRange<std::uint64_t>(0, 5);
  std::vector<std::uint64_t> times(set.sizes().num_samples()), of_source(sources);
  for (const auto& pack : packs_of(sampler.epoch(epoch))) {
    for (const std::uint32_t sample : pack) {
      ++times[sample];
      ++of_source[options.sources[sample]];
    }
  }
  for (std::size_t i = 0; i < times.size(); ++i) {
    const double weight = options.source_weights[options.sources[i]];
    RC_ASSERT(std::abs(static_cast<double>(times[i]) - weight) < 1.0);
  }
  RC_ASSERT(sampler.source_counts(epoch) == of_source);
}

RC_GTEST_PROP(SamplerProperty, RejectedAndPackedAreAll, ()) {
  SampleSet set = any_samples();
  const SamplerOptions fitting = any_options(set);
  SamplerOptions options = fitting;
  // Some caps are below some samples now.
  for (std::uint64_t& cap : options.caps.rows) cap = cap > 1 ? cap / 2 : cap;
  options.oversize = *rc::gen::element(OversizePolicy::kReject, OversizePolicy::kAlone);
  Sampler sampler(set.sizes(), options);
  const BalanceReport report = sampler.report(0, 3);
  RC_ASSERT(report.samples_in == set.sizes().num_samples());
  RC_ASSERT(report.samples_packed + report.samples_rejected == report.samples_in);
  RC_ASSERT(report.samples_rejected == sampler.screening().rejected.size());
  const PackLimits limits(set.sizes(), options.caps, options.costs);
  std::size_t alone = 0;
  for (const auto& pack : packs_of(sampler.epoch(0))) {
    if (pack.size() == 1 && !limits.fits_alone(pack[0])) {
      ++alone;
      continue;
    }
    for (int limit = 0; limit < limits.count(); ++limit) {
      std::uint64_t sum = 0;
      for (const std::uint32_t sample : pack) sum += limits.demand(sample, limit);
      RC_ASSERT(sum <= limits.cap(limit));
    }
  }
  RC_ASSERT(alone == sampler.screening().oversize.size());
}

RC_GTEST_PROP(SamplerProperty, TheBoundIsNeverAboveThePacks, ()) {
  const SampleSet set = any_samples();
  Sampler sampler(set.sizes(), any_options(set));
  const BalanceReport report = sampler.report(0, *rc::gen::inRange<std::uint64_t>(1, 9));
  RC_ASSERT(report.packs_lower_bound <= report.packs);
  RC_ASSERT(report.samples_in == set.sizes().num_samples());
  for (const double waste : report.waste) RC_ASSERT(waste >= 0.0 && waste <= 1.0);
}

RC_GTEST_PROP(SamplerProperty, EqualSamplesFillOnePackAfterTheOther, ()) {
  const auto num_samples = *rc::gen::inRange<std::size_t>(0, 3000);
  const auto rows = *rc::gen::inRange<std::uint32_t>(0, 50);
  const auto cap = *rc::gen::inRange<std::uint64_t>(50, 500);
  const auto most = *rc::gen::inRange<std::uint64_t>(1, 100);
  const SampleSet set{1, std::vector<std::uint32_t>(num_samples, rows), {{cap}, most}};
  Sampler sampler(set.sizes(), any_options(set));
  const std::uint64_t in_pack = rows == 0 ? most : std::min(most, cap / rows);
  const std::uint64_t expected = (num_samples + in_pack - 1) / in_pack;
  RC_ASSERT(sampler.epoch(0).num_packs() == expected);
}

RC_GTEST_PROP(SamplerProperty, SameSeedSameOrder, ()) {
  const SampleSet set = any_samples();
  const SamplerOptions options = any_options(set);
  Sampler one(set.sizes(), options), two(set.sizes(), options);
  two.epoch(7);  // what was asked for before does not matter
  RC_ASSERT(packs_of(one.epoch(3)) == packs_of(two.epoch(3)));
}

RC_GTEST_PROP(SamplerProperty, ReportsForAnyNumberOfRanksLeaveTheOrderAlone, ()) {
  const SampleSet set = any_samples();
  const SamplerOptions options = any_options(set);
  Sampler one(set.sizes(), options), two(set.sizes(), options);
  one.report(1, *rc::gen::inRange<std::uint64_t>(1, 30));
  two.report(1, *rc::gen::inRange<std::uint64_t>(1, 30));
  RC_ASSERT(packs_of(one.epoch(1)) == packs_of(two.epoch(1)));
}

RC_GTEST_PROP(SamplerProperty, ResumeAtAnyPositionGoesOnWithTheSamePacks, ()) {
  const SampleSet set = any_samples();
  const SamplerOptions options = any_options(set);
  Sampler whole(set.sizes(), options);
  std::vector<std::vector<std::uint32_t>> uninterrupted;
  for (std::uint64_t epoch = 0; epoch < 3; ++epoch) {
    for (auto& pack : packs_of(whole.epoch(epoch))) uninterrupted.push_back(std::move(pack));
  }
  // The place in the list where step `from` of epoch 1 begins.
  Sampler resumed(set.sizes(), options);
  const std::uint64_t steps = resumed.epoch(1).num_steps();
  RC_PRE(steps > 0);
  const std::uint64_t from = *rc::gen::inRange<std::uint64_t>(0, steps);
  std::size_t place = whole.epoch(0).num_packs() + from * options.packs_per_step;
  for (std::uint64_t epoch = 1; epoch < 3; ++epoch) {
    const EpochOrder& order = resumed.epoch(epoch);
    for (std::uint64_t step = epoch == 1 ? from : 0; step < order.num_steps(); ++step) {
      for (std::uint64_t i = 0; i < order.packs_in_step(step); ++i, ++place)
        RC_ASSERT(std::ranges::equal(order.pack(step, i), uninterrupted[place]));
    }
  }
  RC_ASSERT(place == uninterrupted.size());
}

RC_GTEST_PROP(SamplerProperty, AnyPositionIsReachedDirectly, ()) {
  const SampleSet set = any_samples();
  const SamplerOptions options = any_options(set);
  Sampler sampler(set.sizes(), options);
  const EpochOrder& order = sampler.epoch(0);
  std::uint64_t packs = 0;
  for (std::uint64_t step = 0; step < order.num_steps(); ++step) {
    const std::uint64_t in_step = order.packs_in_step(step);
    RC_ASSERT(in_step == options.packs_per_step || step + 1 == order.num_steps());
    RC_ASSERT(!order.pack(step, in_step - 1).empty());
    RC_ASSERT(order.pack(step, in_step).empty());
    packs += in_step;
  }
  RC_ASSERT(packs == order.num_packs());
}

}  // namespace
}  // namespace gimbal
