// Sampler::report: fill, bound and waste of a packed epoch.
#include <algorithm>

#include "gimbal/balance/arrange.h"
#include "gimbal/balance/sampler.h"
#include "gimbal/base/error.h"

namespace gimbal {
namespace {

// Mean over the full slots of 1 - mean / max over the ranks of a slot.
class WasteMean {
 public:
  void add(std::span<const double> ranks) {
    const double most = *std::max_element(ranks.begin(), ranks.end());
    double sum = 0;
    for (const double value : ranks) sum += value;
    if (most > 0) total_ += 1.0 - sum / (most * static_cast<double>(ranks.size()));
    ++slots_;
  }
  double mean() const { return slots_ == 0 ? 0.0 : total_ / static_cast<double>(slots_); }

 private:
  double total_ = 0;
  std::uint64_t slots_ = 0;
};

// What a pack needs: rows per stream, then its cost.
std::vector<double> pack_loads(std::span<const std::uint32_t> pack, const SampleSizes& sizes,
                               std::span<const StreamCost> costs) {
  const auto streams = static_cast<std::size_t>(sizes.num_streams);
  std::vector<double> loads(streams + 1);
  for (const std::uint32_t sample : pack) {
    for (std::size_t k = 0; k < streams; ++k) loads[k] += sizes.at(sample, static_cast<int>(k));
    loads[streams] += sample_cost(sizes, sample, costs);
  }
  return loads;
}

}  // namespace

BalanceReport Sampler::report(std::uint64_t epoch, std::uint64_t ranks) {
  GIMBAL_CHECK(ranks > 0, "a report for no ranks");
  const EpochOrder& order = this->epoch(epoch);
  const auto streams = static_cast<std::size_t>(sizes_.num_streams);
  BalanceReport report;
  report.samples_in = cached_samples_.size();
  report.packs = order.num_packs();
  report.packs_lower_bound = packs_lower_bound(sizes_, options_.caps, cached_samples_);
  report.steps = order.num_steps();
  report.seconds = pack_seconds_;

  std::vector<double> rows(streams);
  std::vector<WasteMean> waste(streams + 1);
  std::vector<std::vector<double>> slot(streams + 1);
  for (std::uint64_t step = 0; step < order.num_steps(); ++step) {
    for (auto& loads : slot) loads.clear();
    for (std::uint64_t i = 0; i < order.packs_in_step(step); ++i) {
      const auto pack = order.pack(step, i);
      report.samples_packed += pack.size();
      const std::vector<double> loads = pack_loads(pack, sizes_, options_.costs);
      for (std::size_t k = 0; k < streams; ++k) rows[k] += loads[k];
      for (std::size_t k = 0; k <= streams; ++k) slot[k].push_back(loads[k]);
      if (slot[0].size() < ranks) continue;
      for (std::size_t k = 0; k <= streams; ++k) {
        waste[k].add(slot[k]);
        slot[k].clear();
      }
    }
  }
  GIMBAL_CHECK_EQ(report.samples_in, report.samples_packed, "samples in and packed");

  report.fill.resize(streams);
  for (std::size_t k = 0; k < streams; ++k) {
    const std::uint64_t cap = k < options_.caps.rows.size() ? options_.caps.rows[k] : 0;
    if (cap > 0 && report.packs > 0) {
      report.fill[k] = rows[k] / (static_cast<double>(report.packs) * static_cast<double>(cap));
    }
    report.waste.push_back(waste[k].mean());
  }
  report.cost_waste = waste[streams].mean();
  return report;
}

}  // namespace gimbal
