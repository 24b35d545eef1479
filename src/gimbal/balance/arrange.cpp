#include "gimbal/balance/arrange.h"

#include <algorithm>
#include <numeric>

#include "gimbal/base/error.h"

namespace gimbal {
namespace {

class StepBuilder {
 public:
  StepBuilder(std::span<const double> costs, int num_streams, std::uint64_t packs_per_step)
      : costs_(costs), streams_(static_cast<std::size_t>(num_streams)), per_step_(packs_per_step) {
    totals_.resize(costs.size() / streams_);
    for (std::size_t p = 0; p < totals_.size(); ++p) {
      for (std::size_t k = 0; k < streams_; ++k) totals_[p] += costs[p * streams_ + k];
    }
  }

  std::vector<std::uint32_t> by_total() const {
    std::vector<std::uint32_t> order(totals_.size());
    std::iota(order.begin(), order.end(), 0U);
    sort_by_total(order);
    return order;
  }

  // Halves the packs at the median of the stream in which they differ most, until a step is left.
  void build(std::span<std::uint32_t> packs) const {
    const std::uint64_t num_steps = packs.size() / per_step_;
    if (num_steps <= 1) {
      sort_by_total(packs);
      return;
    }
    const std::size_t k = widest_stream(packs);
    const auto middle = static_cast<std::ptrdiff_t>(num_steps / 2 * per_step_);
    std::nth_element(
        packs.begin(), packs.begin() + middle, packs.end(), [&](std::uint32_t a, std::uint32_t b) {
          const double cost_a = costs_[a * streams_ + k], cost_b = costs_[b * streams_ + k];
          if (cost_a != cost_b) return cost_a < cost_b;
          return totals_[a] != totals_[b] ? totals_[a] < totals_[b] : a < b;
        });
    build(packs.first(static_cast<std::size_t>(middle)));
    build(packs.subspan(static_cast<std::size_t>(middle)));
  }

 private:
  void sort_by_total(std::span<std::uint32_t> packs) const {
    std::sort(packs.begin(), packs.end(), [&](std::uint32_t a, std::uint32_t b) {
      return totals_[a] != totals_[b] ? totals_[a] < totals_[b] : a < b;
    });
  }

  std::size_t widest_stream(std::span<const std::uint32_t> packs) const {
    std::size_t widest = 0;
    double most = -1;
    for (std::size_t k = 0; k < streams_; ++k) {
      double low = costs_[packs[0] * streams_ + k], high = low;
      for (const std::uint32_t p : packs) {
        low = std::min(low, costs_[p * streams_ + k]);
        high = std::max(high, costs_[p * streams_ + k]);
      }
      if (high - low > most) {
        most = high - low;
        widest = k;
      }
    }
    return widest;
  }

  std::span<const double> costs_;
  std::size_t streams_;
  std::uint64_t per_step_;
  std::vector<double> totals_;
};

}  // namespace

std::vector<double> pack_costs(const Packs& packs, const SampleSizes& sizes,
                               std::span<const StreamCost> costs) {
  const auto streams = static_cast<std::size_t>(sizes.num_streams);
  GIMBAL_CHECK_EQ(costs.size(), streams, "costs and streams");
  std::vector<double> out(packs.size() * streams);
  for (std::size_t p = 0; p < packs.size(); ++p) {
    for (const std::uint32_t sample : packs[p]) {
      for (std::size_t k = 0; k < streams; ++k) {
        out[p * streams + k] += stream_cost(sizes.at(sample, static_cast<int>(k)), costs[k]);
      }
    }
  }
  return out;
}

std::vector<std::uint32_t> arrange_alike(std::span<const double> costs, int num_streams,
                                         std::uint64_t packs_per_step, const CounterRng& rng) {
  GIMBAL_CHECK(num_streams > 0 && packs_per_step > 0);
  const StepBuilder builder(costs, num_streams, packs_per_step);
  std::vector<std::uint32_t> sorted = builder.by_total();
  const std::size_t rest = sorted.size() % packs_per_step;
  builder.build(std::span(sorted).subspan(rest));
  const std::size_t num_steps = sorted.size() / packs_per_step;
  std::vector<std::uint32_t> order;
  order.reserve(sorted.size());
  for (const std::uint32_t step : random_permutation(static_cast<std::uint32_t>(num_steps), rng)) {
    const auto begin = sorted.begin() + static_cast<std::ptrdiff_t>(rest + step * packs_per_step);
    order.insert(order.end(), begin, begin + static_cast<std::ptrdiff_t>(packs_per_step));
  }
  order.insert(order.end(), sorted.begin(), sorted.begin() + static_cast<std::ptrdiff_t>(rest));
  return order;
}

}  // namespace gimbal
