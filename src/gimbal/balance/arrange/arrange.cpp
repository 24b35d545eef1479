#include "gimbal/balance/arrange/arrange.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "gimbal/balance/arrange/equalise.h"
#include "gimbal/balance/arrange/mix_sources.h"
#include "gimbal/base/error.h"

namespace gimbal {
namespace {

// Packs that differ by less than this share of the largest are alike enough to be in one slot of
// any sources: times the root of the slot's packs, because the widest of many packs decides anyway.
constexpr double kAlikeShare = 0.0009;
constexpr double kMostAlikeShare = 0.02;

// Forms slots of alike packs by halving.
class SlotBuilder {
 public:
  SlotBuilder(const Packs& packs, std::span<const std::uint32_t> loads, const LoadScale& scale,
              const SourceClasses& classes, std::uint64_t packs_per_slot)
      : packs_(packs),
        loads_(loads),
        dims_(scale.dims()),
        cost_(scale.cost_dim()),
        classes_(classes),
        per_slot_(packs_per_slot) {
    const double share =
        std::min(kMostAlikeShare, kAlikeShare * std::sqrt(static_cast<double>(packs_per_slot)));
    alike_per_million_ = static_cast<std::uint64_t>(1e6 * share);
  }

  void sort_by_cost(std::span<std::uint32_t> packs) const {
    std::sort(packs.begin(), packs.end(), Before{loads_, dims_, cost_, cost_});
  }

  // Moves the `count` cheapest packs to the front, cheapest first.
  void take_cheapest(std::span<std::uint32_t> packs, std::size_t count) const {
    std::nth_element(packs.begin(), packs.begin() + static_cast<std::ptrdiff_t>(count), packs.end(),
                     Before{loads_, dims_, cost_, cost_});
    sort_by_cost(packs.first(count));
  }

  // Halves the packs at the median of the direction in which they differ most, until a slot is
  // left, or packs that are so much alike that they can be dealt to slots by their sources.
  void build(std::span<std::uint32_t> packs) const {
    const std::uint64_t slots = packs.size() / per_slot_;
    if (slots <= 1) {
      sort_by_cost(packs);
      return;
    }
    const Range range = widest_range(packs);
    if (classes_.count() > 1 && range.alike) {
      deal(packs, slots);
      return;
    }
    const auto middle = static_cast<std::ptrdiff_t>(slots / 2 * per_slot_);
    std::nth_element(packs.begin(), packs.begin() + middle, packs.end(),
                     Before{loads_, dims_, range.dim, cost_});
    build(packs.first(static_cast<std::size_t>(middle)));
    build(packs.subspan(static_cast<std::size_t>(middle)));
  }

 private:
  struct Before {
    std::span<const std::uint32_t> loads;
    std::size_t dims, dim, cost;
    bool operator()(std::uint32_t a, std::uint32_t b) const {
      const std::uint32_t* x = loads.data() + a * dims;
      const std::uint32_t* y = loads.data() + b * dims;
      if (x[dim] != y[dim]) return x[dim] < y[dim];
      return x[cost] != y[cost] ? x[cost] < y[cost] : a < b;
    }
  };
  struct Range {
    std::size_t dim;  // the widest
    bool alike;       // in every direction
  };

  Range widest_range(std::span<const std::uint32_t> packs) const {
    std::vector<std::uint32_t> low(dims_, ~0U), high(dims_, 0);
    for (const std::uint32_t p : packs) {
      for (std::size_t d = 0; d < dims_; ++d) {
        low[d] = std::min(low[d], loads_[p * dims_ + d]);
        high[d] = std::max(high[d], loads_[p * dims_ + d]);
      }
    }
    Range range{0, true};
    for (std::size_t d = 0; d < dims_; ++d) {
      if (high[d] - low[d] > high[range.dim] - low[range.dim]) range.dim = d;
      // Equal rows are the harder need: attention inside samples is a small part of the cost.
      const std::uint64_t allowed = (d == cost_ ? 2 : 1) * alike_per_million_;
      const std::uint64_t apart = high[d] - low[d];
      range.alike = range.alike && apart * 1'000'000 <= allowed * high[d];
    }
    return range;
  }

  // Each slot gets its share of the packs in which a source prevails.
  void deal(std::span<std::uint32_t> packs, std::uint64_t slots) const {
    struct Card {
      std::uint64_t key;  // the class that prevails in the pack, then the less of it the later
      std::uint32_t pack;
    };
    std::vector<Card> cards;
    std::vector<std::uint32_t> samples(classes_.count());
    for (const std::uint32_t p : packs) {
      std::fill(samples.begin(), samples.end(), 0U);
      for (const std::uint32_t sample : packs_[p]) ++samples[classes_.of(sample)];
      const auto most = std::max_element(samples.begin(), samples.end());
      const std::uint64_t per_mille = std::uint64_t{*most} * 1000 / packs_[p].size();
      cards.push_back(
          {static_cast<std::uint64_t>(most - samples.begin()) * 1024 + 1000 - per_mille, p});
    }
    std::sort(cards.begin(), cards.end(), [](const Card& a, const Card& b) {
      return a.key != b.key ? a.key < b.key : a.pack < b.pack;
    });
    for (std::size_t i = 0; i < cards.size(); ++i)
      packs[i % slots * per_slot_ + i / slots] = cards[i].pack;
    for (std::size_t slot = 0; slot < slots; ++slot)
      sort_by_cost(packs.subspan(slot * per_slot_, per_slot_));
  }

  const Packs& packs_;
  std::span<const std::uint32_t> loads_;
  std::size_t dims_;
  std::size_t cost_;
  const SourceClasses& classes_;
  std::uint64_t per_slot_;
  std::uint64_t alike_per_million_;
};

// A random order of few slots has a trend by chance: of this many orders the one is taken whose
// costs have the least. A random order of more slots than kManySlots has next to none.
constexpr std::uint64_t kOrders = 16;
constexpr std::uint32_t kManySlots = 4096;

std::vector<std::uint32_t> order_without_trend(std::span<const std::uint64_t> slot_costs,
                                               const CounterRng& rng) {
  __extension__ using Wide = __int128;
  const auto slots = static_cast<std::uint32_t>(slot_costs.size());
  std::vector<std::uint32_t> best;
  Wide least = 0;
  for (std::uint64_t i = 0; i < (slots > kManySlots ? 1 : kOrders); ++i) {
    std::vector<std::uint32_t> order = random_permutation(slots, CounterRng(rng.bits(i)));
    Wide trend = 0;  // covariance of place and cost
    for (std::uint32_t place = 0; place < slots; ++place)
      trend += (2 * Wide{place} + 1 - slots) * slot_costs[order[place]];
    if (trend < 0) trend = -trend;
    if (i == 0 || trend < least) {
      least = trend;
      best = std::move(order);
    }
  }
  return best;
}

// Slot by slot in a random order, then the rest.
Packs in_random_slots(const Packs& packs, std::span<const std::uint32_t> sorted, std::size_t rest,
                      std::uint64_t packs_per_slot, std::span<const std::uint64_t> slot_costs,
                      const CounterRng& rng) {
  Packs arranged;
  arranged.offsets.reserve(packs.offsets.size());
  arranged.samples.reserve(packs.samples.size());
  for (const std::uint32_t slot : order_without_trend(slot_costs, rng)) {
    for (const std::uint32_t p : sorted.subspan(rest + slot * packs_per_slot, packs_per_slot))
      arranged.add(packs[p]);
  }
  for (const std::uint32_t p : sorted.first(rest)) arranged.add(packs[p]);
  return arranged;
}

}  // namespace

std::vector<double> pack_costs(const Packs& packs, const SampleSizes& sizes,
                               std::span<const StreamCost> costs) {
  const auto streams = static_cast<std::size_t>(sizes.num_streams);
  GIMBAL_CHECK_EQ(costs.size(), streams, "costs and streams");
  std::vector<double> out(packs.size() * streams);
  for (std::size_t p = 0; p < packs.size(); ++p) {
    for (const std::uint32_t sample : packs[p]) {
      for (std::size_t k = 0; k < streams; ++k)
        out[p * streams + k] += stream_cost(sizes, sample, static_cast<int>(k), costs[k]);
    }
  }
  return out;
}

void arrange_packs(Packs& packs, const PackLimits& limits, std::span<const StreamCost> costs,
                   std::span<const std::uint32_t> sources, std::uint64_t packs_per_slot,
                   const CounterRng& rng) {
  GIMBAL_CHECK(packs_per_slot > 0, "a slot of no packs");
  GIMBAL_CHECK(sources.empty() || sources.size() == limits.sizes().num_samples(), "sources of ",
               sources.size(), " samples of ", limits.sizes().num_samples());
  const LoadScale scale(packs, limits.sizes(), costs);
  const std::vector<std::uint32_t> loads = equalise_packs(packs, limits, scale);
  const SourceClasses classes(packs, sources);
  const SlotBuilder builder(packs, loads, scale, classes, packs_per_slot);
  std::vector<std::uint32_t> sorted(packs.size());
  std::iota(sorted.begin(), sorted.end(), 0U);
  // The cheapest packs are the rest that fills no slot.
  const std::size_t rest = sorted.size() % packs_per_slot;
  builder.take_cheapest(sorted, rest);
  builder.build(std::span(sorted).subspan(rest));
  std::vector<std::uint64_t> slot_costs((sorted.size() - rest) / packs_per_slot);
  for (std::size_t i = rest; i < sorted.size(); ++i)
    slot_costs[(i - rest) / packs_per_slot] += loads[sorted[i] * scale.dims() + scale.cost_dim()];
  packs = in_random_slots(packs, sorted, rest, packs_per_slot, slot_costs, rng);
  mix_sources(packs, limits.sizes(), classes, packs_per_slot, rng);
}

}  // namespace gimbal
