// pattern_packs: real samples into patterns.
#include <algorithm>
#include <numeric>

#include "gimbal/balance/bound/fast.h"
#include "gimbal/balance/pack/methods.h"
#include "gimbal/balance/patterns/generate.h"
#include "gimbal/balance/patterns/grid.h"
#include "gimbal/balance/patterns/pattern_set.h"
#include "gimbal/balance/patterns/round.h"
#include "gimbal/base/error.h"
#include "gimbal/base/rng.h"

namespace gimbal {
namespace {

// Rounds of column generation for other numbers of samples than the patterns were solved for.
constexpr int kAdaptRounds = 12;
// Epochs up to this size are worth a search for single packs; the samples of the thinnest packs
// that it may pack anew.
constexpr std::size_t kRepairEpoch = 1 << 16;
constexpr double kStrange = 0.03;  // rounding loss, see types.h
constexpr std::size_t kRepairSamples = 2000;

// The samples of an order, type by type, each type's in the order's (random) order.
class TypeBuckets {
 public:
  TypeBuckets(const TypedOrder& typed, std::span<const std::uint32_t> order,
              const std::vector<bool>& fits)
      : samples_(order.size()) {
    next_.resize(typed.demand.size());
    std::uint64_t begin = 0;
    for (std::size_t t = 0; t < next_.size(); ++t) {
      next_[t] = begin;
      begin += typed.demand[t];
    }
    end_ = next_;
    for (std::size_t i = 0; i < order.size(); ++i) {
      if (fits.empty() || fits[i]) samples_[end_[typed.types[i]]++] = order[i];
    }
  }
  bool has(std::uint32_t type) const { return next_[type] < end_[type]; }
  std::uint32_t take(std::uint32_t type) { return samples_[next_[type]++]; }
  std::vector<std::uint32_t> rest() const {
    std::vector<std::uint32_t> rest;
    for (std::size_t t = 0; t < next_.size(); ++t)
      rest.insert(rest.end(), samples_.begin() + static_cast<std::ptrdiff_t>(next_[t]),
                  samples_.begin() + static_cast<std::ptrdiff_t>(end_[t]));
    return rest;
  }

 private:
  std::vector<std::uint32_t> samples_;
  std::vector<std::uint64_t> next_, end_;
};

// Which entries are no larger than their types; empty when all are.
std::vector<bool> within_types(const PatternSet& set, const PackLimits& limits,
                               std::span<const std::uint32_t> order, TypedOrder& typed,
                               std::vector<std::uint32_t>& others) {
  const auto dims = static_cast<std::size_t>(limits.count());
  std::vector<bool> fits;
  for (std::size_t i = 0; i < order.size(); ++i) {
    const std::uint64_t* high = &set.tree.high[typed.types[i] * dims];
    bool fit = true;
    for (std::size_t d = 0; d < dims && fit; ++d)
      fit = limits.demand(order[i], static_cast<int>(d)) <= high[d];
    if (fit) continue;
    if (fits.empty()) fits.assign(order.size(), true);
    fits[i] = false;
    --typed.demand[typed.types[i]];
    others.push_back(order[i]);
  }
  return fits;
}

struct UsedPatterns {
  std::vector<PatternColumn> patterns;
  std::vector<std::uint64_t> use;
};

// The patterns for other numbers of samples per type: the known ones, and a few rounds more.
UsedPatterns adapted(const PatternSet& set, std::span<const std::uint64_t> demand) {
  const GridProblem grid = grid_problem(set.tree, set.grid, demand, Rounding::kUp);
  if (grid.types.empty()) return {};
  std::vector<std::int64_t> place(demand.size(), -1);
  for (std::size_t i = 0; i < grid.types.size(); ++i)
    place[grid.types[i]] = static_cast<std::int64_t>(i);
  std::vector<PatternColumn> known;
  for (const PatternColumn& pattern : set.patterns) {
    PatternColumn column;
    for (const TypeCount& entry : pattern) {
      if (place[entry.type] >= 0)
        column.push_back({static_cast<std::uint32_t>(place[entry.type]), entry.count});
    }
    if (!column.empty()) known.push_back(std::move(column));
  }
  ColumnOptions options;
  options.max_rounds = kAdaptRounds;
  GeneratedPatterns found = generate_patterns(grid.problem, std::move(known), options);
  UsedPatterns used{name_types(std::move(found.columns), grid.types), {}};
  used.use = whole_patterns(used.patterns, demand);
  return used;
}

// window_packs wants a random order.
Packs packs_in_random_order(const PackLimits& limits, std::vector<std::uint32_t> samples) {
  std::vector<std::uint32_t> mixed =
      random_permutation(static_cast<std::uint32_t>(samples.size()), CounterRng(samples.size()));
  for (std::uint32_t& entry : mixed) entry = samples[entry];
  return window_packs(limits, mixed);
}

// The packs with most room, by the limit that is used most, up to a number of samples; ascending.
std::vector<std::size_t> thinnest_packs(const Packs& packs, const PackLimits& limits) {
  const auto dims = static_cast<std::size_t>(limits.count());
  std::vector<double> use(packs.size() * dims), total(dims);
  for (std::size_t p = 0; p < packs.size(); ++p) {
    for (const std::uint32_t sample : packs[p]) {
      for (std::size_t d = 0; d < dims; ++d)
        use[p * dims + d] += static_cast<double>(limits.demand(sample, static_cast<int>(d))) /
                             static_cast<double>(limits.cap(static_cast<int>(d)));
    }
    for (std::size_t d = 0; d < dims; ++d) total[d] += use[p * dims + d];
  }
  const auto scarce =
      static_cast<std::size_t>(std::max_element(total.begin(), total.end()) - total.begin());
  std::vector<std::size_t> order(packs.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return use[a * dims + scarce] < use[b * dims + scarce];
  });
  std::size_t samples = 0, taken = 0;
  while (taken < order.size() && samples + packs[order[taken]].size() <= kRepairSamples)
    samples += packs[order[taken++]].size();
  order.resize(taken);
  std::sort(order.begin(), order.end());
  return order;
}

// Adds packs of the samples of `order` that the patterns left over. When that is above the bound,
// they are packed anew together with the thinnest packs.
void pack_rest(Packs& packs, const PackLimits& limits, std::vector<std::uint32_t> rest,
               std::span<const std::uint32_t> order) {
  const Packs left = packs_in_random_order(limits, rest);
  const bool repair =
      order.size() <= kRepairEpoch && packs.size() + left.size() > fast_lower_bound(limits, order);
  const std::vector<std::size_t> thin =
      repair ? thinnest_packs(packs, limits) : std::vector<std::size_t>{};
  for (const std::size_t p : thin) rest.insert(rest.end(), packs[p].begin(), packs[p].end());
  Packs anew = thin.empty() ? Packs{} : packs_in_random_order(limits, std::move(rest));
  const bool better = !thin.empty() && anew.size() < left.size() + thin.size();
  if (better) {
    Packs kept;
    auto next = thin.begin();
    for (std::size_t p = 0; p < packs.size(); ++p) {
      if (next != thin.end() && *next == p) {
        ++next;
      } else {
        kept.add(packs[p]);
      }
    }
    packs = std::move(kept);
  }
  const Packs& more = better ? anew : left;
  for (std::size_t p = 0; p < more.size(); ++p) packs.add(more[p]);
}

}  // namespace

Packs pattern_packs(const PatternSet& set, const PackLimits& limits,
                    std::span<const std::uint32_t> order) {
  GIMBAL_CHECK(!set.empty(), "no patterns: window_packs packs these samples better");
  GIMBAL_USER_CHECK(set.fits(limits),
                    "balance: the patterns were solved for other caps; solve them anew, or remove "
                    "the pattern file");
  TypedOrder typed = type_samples(set.tree, limits, order);
  std::vector<std::uint32_t> others;
  const std::vector<bool> fits = within_types(set, limits, order, typed, others);
  // Of other data than the patterns were solved for: search instead.
  if (others.size() > order.size() / 50 ||
      (typed.demand != set.demand &&
       rounding_loss(set.tree, typed.demand, limits, order) > kStrange))
    return window_packs(limits, order);
  const UsedPatterns used =
      typed.demand == set.demand ? UsedPatterns{set.patterns, set.use} : adapted(set, typed.demand);
  Packs packs;
  packs.samples.reserve(order.size());
  TypeBuckets buckets(typed, order, fits);
  for (std::size_t p = 0; p < used.patterns.size(); ++p) {
    for (std::uint64_t n = 0; n < used.use[p]; ++n) {
      for (const TypeCount& entry : used.patterns[p]) {
        for (std::uint32_t i = 0; i < entry.count && buckets.has(entry.type); ++i)
          packs.samples.push_back(buckets.take(entry.type));
      }
      if (packs.samples.size() > packs.offsets.back())
        packs.offsets.push_back(packs.samples.size());
    }
  }
  const std::vector<std::uint32_t> left = buckets.rest();
  others.insert(others.end(), left.begin(), left.end());
  pack_rest(packs, limits, std::move(others), order);
  return packs;
}

}  // namespace gimbal
