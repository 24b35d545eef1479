// The sampler on the way over patterns, with few samples: large data sets take it, small ones only
// when patterns are given.
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <numeric>

#include "balance/check_cases.h"
#include "balance/pack_cases.h"
#include "gimbal/balance/pack/methods.h"
#include "gimbal/balance/patterns/pattern_set.h"
#include "gimbal/balance/sampler.h"

namespace gimbal {
namespace {

struct PatternCase {
  testing::PackCase problem;
  SamplerOptions options;
};

// All samples of a random problem, with patterns that were solved for some of them.
PatternCase any_pattern_case() {
  PatternCase result;
  testing::PackCase& problem = result.problem;
  problem = testing::any_pack_case(1, 60);
  const PackLimits limits = problem.limits();
  std::vector<std::uint32_t> all(problem.sizes().num_samples());
  std::iota(all.begin(), all.end(), 0U);
  const std::size_t solved_for = *testing::between<std::size_t>(1, all.size() + 1);
  PatternOptions pattern_options;
  pattern_options.compare = false;
  pattern_options.max_rounds = 3;
  SamplerOptions& options = result.options;
  options.patterns = std::make_shared<const PatternSet>(
      solve_patterns(limits, std::span(all).first(solved_for), pattern_options));
  options.caps = problem.caps;
  options.costs = problem.costs;
  options.packs_per_slot = *testing::between<std::uint64_t>(1, 4);
  options.packs_per_step = options.packs_per_slot * *testing::between<std::uint64_t>(1, 3);
  options.seed = *rc::gen::arbitrary<std::uint64_t>();
  return result;
}

TEST(PatternProperty, EverySampleOnceAndNoCapExceeded) {
  testing::check_cases(1000, [] {
    const PatternCase c = any_pattern_case();
    const PackLimits limits = c.problem.limits();
    Sampler sampler(c.problem.sizes(), c.options);
    for (const std::uint64_t epoch : {0U, 1U}) {
      const Packs& packs = sampler.epoch(epoch).packs();
      std::vector<std::uint32_t> all(c.problem.sizes().num_samples());
      std::iota(all.begin(), all.end(), 0U);
      RC_ASSERT(testing::sorted(packs.samples) == all);
      for (std::size_t p = 0; p < packs.size(); ++p)
        RC_ASSERT(testing::keeps_caps(limits, packs[p]));
    }
  });
}

TEST(PatternProperty, RepeatedAndMissingSamplesAreNotLost) {
  testing::check_cases(1000, [] {
    const PatternCase c = any_pattern_case();
    if (c.options.patterns->empty()) return;
    const PackLimits limits = c.problem.limits();
    const Packs packs = pattern_packs(*c.options.patterns, limits, c.problem.order);
    RC_ASSERT(testing::sorted(packs.samples) == testing::sorted(c.problem.order));
    for (std::size_t p = 0; p < packs.size(); ++p) RC_ASSERT(testing::keeps_caps(limits, packs[p]));
  });
}

TEST(PatternProperty, AnyPositionIsThatOfTheUninterruptedOrder) {
  testing::check_cases(500, [] {
    const PatternCase c = any_pattern_case();
    Sampler first(c.problem.sizes(), c.options), resumed(c.problem.sizes(), c.options);
    const EpochOrder& order = first.epoch(3);
    if (order.num_steps() == 0) return;
    const std::uint64_t step = *testing::between<std::uint64_t>(0, order.num_steps());
    const EpochOrder& again = resumed.epoch(3);
    for (std::uint64_t i = 0; i < c.options.packs_per_step; ++i)
      RC_ASSERT(std::ranges::equal(order.pack(step, i), again.pack(step, i)));
  });
}

}  // namespace
}  // namespace gimbal
