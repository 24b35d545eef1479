#include "gimbal/balance/arrange/pack_loads.h"

#include <algorithm>
#include <cmath>

#include "gimbal/base/error.h"

namespace gimbal {
namespace {

constexpr double kMeanPack = 16384;
// Above 512 mean packs (a stream that hardly any pack has; a sample that is packed alone)
// everything is the same. Bounded so that sums and squares of loads stay exact in a double.
constexpr std::uint32_t kMostLoad = 512 * 16384;

std::uint32_t whole_load(double load) {
  return load < kMostLoad ? static_cast<std::uint32_t>(load) : kMostLoad;
}

// Samples come in a random order: their rows are fetched this many samples ahead.
constexpr std::size_t kAhead = 16;

void fetch_ahead(const SampleSizes& sizes, std::span<const std::uint32_t> samples, std::size_t i) {
  if (i + kAhead < samples.size()) {
    const auto row = samples[i + kAhead] * static_cast<std::size_t>(sizes.num_streams);
    __builtin_prefetch(sizes.rows.data() + row);
  }
}

// Scale factors have few digits: how a machine rounds the total then does not matter.
double load_factor(double coefficient, double mean) {
  if (!(coefficient > 0) || !(mean > 0)) return 0;
  int exponent = 0;
  const double mantissa = std::frexp(coefficient * kMeanPack / mean, &exponent);
  return std::ldexp(std::round(mantissa * 4096), exponent - 12);
}

}  // namespace

LoadScale::LoadScale(const Packs& packs, const SampleSizes& sizes,
                     std::span<const StreamCost> costs)
    : sizes_(sizes) {
  const auto streams = static_cast<std::size_t>(sizes.num_streams);
  GIMBAL_CHECK_EQ(costs.size(), streams, "costs and streams");
  std::vector<double> rows(streams), pairs(streams);  // of a mean pack
  for (std::size_t i = 0; i < packs.samples.size(); ++i) {
    fetch_ahead(sizes, packs.samples, i);
    const std::uint32_t sample = packs.samples[i];
    for (std::size_t k = 0; k < streams; ++k) {
      rows[k] += sizes.at(sample, static_cast<int>(k));
      if (costs[k].per_pair > 0) pairs[k] += sizes.pairs_at(sample, static_cast<int>(k));
    }
  }
  const double per_pack = 1.0 / static_cast<double>(std::max<std::size_t>(packs.size(), 1));
  double whole = 0;
  std::vector<double> cost(streams);
  for (std::size_t k = 0; k < streams; ++k) {
    rows[k] *= per_pack;
    pairs[k] *= per_pack;
    cost[k] = costs[k].per_row * rows[k] + costs[k].per_pair * pairs[k];
    whole += cost[k];
  }
  const auto with_pairs =
      std::count_if(costs.begin(), costs.end(), [](const StreamCost& c) { return c.per_pair > 0; });
  for (std::size_t k = 0; k < streams; ++k) {
    if (rows[k] == 0) continue;
    const bool own = with_pairs > 1 && costs[k].per_pair > 0;
    streams_.push_back({static_cast<int>(k), dims_++, load_factor(1.0, rows[k]),
                        load_factor(costs[k].per_row, whole), load_factor(costs[k].per_pair, whole),
                        own ? dims_++ : kNone, load_factor(costs[k].per_row, cost[k]),
                        load_factor(costs[k].per_pair, cost[k])});
  }
  cost_dim_ = dims_++;
}

void LoadScale::weigh(std::uint32_t sample, std::uint32_t* loads) const {
  // Each product is rounded down by itself: all sums are of whole numbers.
  std::uint32_t cost = 0;
  for (const Stream& s : streams_) {
    const double rows = sizes_.at(sample, s.stream);
    loads[s.rows_dim] = whole_load(s.rows * rows);
    cost += whole_load(s.cost_per_row * rows);
    if (s.cost_per_pair == 0) continue;
    const double pairs = sizes_.pairs_at(sample, s.stream);
    cost += whole_load(s.cost_per_pair * pairs);
    if (s.own_dim != kNone) {
      loads[s.own_dim] = std::min(
          whole_load(s.own_per_row * rows) + whole_load(s.own_per_pair * pairs), kMostLoad);
    }
  }
  loads[cost_dim_] = std::min(cost, kMostLoad);
}

void LoadScale::weigh_all(std::span<const std::uint32_t> samples, std::uint32_t* loads) const {
  for (std::size_t i = 0; i < samples.size(); ++i) {
    fetch_ahead(sizes_, samples, i);
    weigh(samples[i], loads + i * dims_);
  }
}

std::vector<std::uint32_t> weigh_packs(const Packs& packs, const LoadScale& scale) {
  constexpr std::size_t kBlock = 4096;  // packs
  const std::size_t dims = scale.dims();
  std::vector<std::uint32_t> loads(packs.size() * dims), of_samples;
  for (std::size_t begin = 0; begin < packs.size(); begin += kBlock) {
    const std::size_t end = std::min(begin + kBlock, packs.size());
    const auto samples =
        std::span(packs.samples)
            .subspan(packs.offsets[begin], packs.offsets[end] - packs.offsets[begin]);
    of_samples.resize(samples.size() * dims);
    scale.weigh_all(samples, of_samples.data());
    const std::uint32_t* load = of_samples.data();
    for (std::size_t p = begin; p < end; ++p) {
      for (std::size_t n = packs[p].size(); n > 0; --n) {
        for (std::size_t d = 0; d < dims; ++d) loads[p * dims + d] += *load++;
      }
    }
  }
  return loads;
}

}  // namespace gimbal
