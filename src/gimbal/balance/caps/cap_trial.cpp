#include "gimbal/balance/caps/cap_trial.h"

#include <algorithm>
#include <cmath>

#include "gimbal/balance/pack/fill.h"

namespace gimbal {
namespace {

constexpr std::uint32_t kTrialPasses = 20;
constexpr std::uint32_t kTrialReach = 32;

}  // namespace

Packs quick_packs(const PackLimits& limits, std::span<const std::uint32_t> order) {
  const FillScale scale(limits, order);
  Packs best;
  // The limits weigh as they are in demand, or the scarcest decides.
  for (const int sharpness : {64, 1}) {
    const FillScale sharp = scale.sharpened(sharpness);
    OpenPacks open(limits, sharp);
    open.load(order);
    fill_fitted(open, kTrialPasses, kTrialReach);
    Packs packs;
    packs.samples.reserve(order.size());
    for (std::uint32_t p = 0; p < open.num_packs(); ++p) {
      if (open.first_in(p) == OpenPacks::kNone) continue;
      open.append_samples(p, packs.samples);
      packs.offsets.push_back(packs.samples.size());
    }
    if (best.size() == 0 || packs.size() < best.size()) best = std::move(packs);
  }
  return best;
}

std::vector<double> pack_times(const Packs& packs, const SampleSizes& sizes,
                               const PackTimeModel& model) {
  const std::size_t streams = model.costs.size(), count = packs.size();
  std::vector<double> cost(count * streams, 0), mean(streams, 0);
  double mean_pack = 0;
  for (std::size_t p = 0; p < count; ++p) {
    for (std::size_t k = 0; k < streams; ++k) {
      double& c = cost[p * streams + k];
      for (const std::uint32_t i : packs[p])
        c += stream_cost(sizes, i, static_cast<int>(k), model.costs[k]);
      mean[k] += c / static_cast<double>(count);
      mean_pack += c / static_cast<double>(count);
    }
  }
  std::vector<double> times(count, model.overhead);
  for (std::size_t p = 0; p < count; ++p) {
    double sum = 0, peak = 0;
    for (std::size_t k = 0; k < streams; ++k) {
      const double c = cost[p * streams + k];
      sum += c;
      if (mean[k] > 0) peak = std::max(peak, c / mean[k]);
    }
    times[p] += model.phases_in_parallel ? mean_pack * peak : sum;
  }
  return times;
}

double mean_slot_time(std::vector<double> times, double packs, std::uint64_t ranks) {
  if (times.empty()) return 0;
  std::sort(times.begin(), times.end());
  const auto count = static_cast<double>(times.size());
  const double slots = std::max(1.0, std::round(packs / static_cast<double>(ranks)));
  if (slots >= count) {
    double mean = 0;
    for (const double t : times) mean += t / count;
    // The upper ends are half a slot above the mean; a slot is a tiny part of the range.
    return mean + (times.back() - times.front()) / (2 * slots);
  }
  double sum = 0;
  for (double slot = 1; slot <= slots; ++slot) {
    const double at = slot / slots * count - 0.5;  // times[i] is the middle of its share
    const auto below = static_cast<std::size_t>(at);
    sum += below + 1 < times.size() ? times[below] + (at - static_cast<double>(below)) *
                                                         (times[below + 1] - times[below])
                                    : times.back();
  }
  return sum / slots;
}

}  // namespace gimbal
