#include "gimbal/balance/report.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "gimbal/base/error.h"
#include "gimbal/base/rng.h"

namespace gimbal {
namespace {

constexpr std::uint64_t kReferenceOrders = 3;  // random orders that source_mix_ratio averages

// Packs that run at the same time: places [begin, end) of the order.
struct FullSlot {
  std::uint64_t begin;
  std::uint64_t end;
};

// A step that is no multiple of the ranks ends in a slot that is not full.
std::vector<FullSlot> full_slots(const ReportInput& input, std::uint64_t& all_slots) {
  std::vector<FullSlot> slots;
  const std::uint64_t packs = input.packs.size();
  all_slots = 0;
  for (std::uint64_t begin = 0; begin < packs;) {
    const std::uint64_t end = begin + std::min(input.packs_per_step, packs - begin);
    all_slots += (end - begin - 1) / input.ranks + 1;
    for (std::uint64_t at = begin; end - at >= input.ranks; at += input.ranks)
      slots.push_back({at, at + input.ranks});
    begin = end;
  }
  return slots;
}

// Mean over the full slots of 1 - mean / max.
double mean_waste(std::span<const FullSlot> slots, std::span<const double> values,
                  std::size_t column, std::size_t columns) {
  double total = 0;
  for (const FullSlot& slot : slots) {
    double most = 0, sum = 0;
    for (std::uint64_t p = slot.begin; p < slot.end; ++p) {
      const double value = values[p * columns + column];
      most = std::max(most, value);
      sum += value;
    }
    const double share = most > 0 ? sum / (most * static_cast<double>(slot.end - slot.begin)) : 1.0;
    total += std::max(0.0, 1.0 - share);  // equal values may round to a little more than 1
  }
  return slots.empty() ? 0.0 : total / static_cast<double>(slots.size());
}

// Pearson correlation of a slot's index and the sum of its values.
double index_correlation(std::span<const FullSlot> slots, std::span<const double> values,
                         std::size_t column, std::size_t columns) {
  if (slots.size() < 3) return 0;
  std::vector<double> sums;
  sums.reserve(slots.size());
  for (const FullSlot& slot : slots) {
    double sum = 0;
    for (std::uint64_t p = slot.begin; p < slot.end; ++p) sum += values[p * columns + column];
    sums.push_back(sum);
  }
  const double n = static_cast<double>(sums.size());
  const double mean = std::accumulate(sums.begin(), sums.end(), 0.0) / n;
  double both = 0, of_cost = 0, of_index = 0;
  for (std::size_t i = 0; i < sums.size(); ++i) {
    const double x = static_cast<double>(i) - (n - 1) / 2;
    both += x * (sums[i] - mean);
    of_index += x * x;
    of_cost += (sums[i] - mean) * (sums[i] - mean);
  }
  // Slots that differ by rounding alone have no trend.
  const double noise = 1e-12 * mean;
  if (of_cost <= n * noise * noise) return 0;
  return both / std::sqrt(of_index * of_cost);
}

// Mean over slots of the total-variation distance of their sources from the whole's.
class SourceDistance {
 public:
  explicit SourceDistance(const ReportInput& input) : input_(input) {
    std::uint32_t sources = 0;
    for (const std::uint32_t source : input.sources) sources = std::max(sources, source + 1);
    whole_.resize(sources);
    in_slot_.resize(sources);
    for (const std::uint32_t sample : input.packs.samples) whole_[input.sources[sample]] += 1;
    for (double& share : whole_) share /= static_cast<double>(input.packs.samples.size());
  }

  // `order`: the pack at each place; empty: as they are.
  double mean(std::span<const FullSlot> slots, std::span<const std::uint32_t> order) {
    double total = 0;
    for (const FullSlot& slot : slots) {
      std::uint64_t samples = 0;
      for (std::uint64_t place = slot.begin; place < slot.end; ++place) {
        for (const std::uint32_t sample : input_.packs[order.empty() ? place : order[place]]) {
          const std::uint32_t source = input_.sources[sample];
          if (in_slot_[source]++ == 0) present_.push_back(source);
          ++samples;
        }
      }
      // Half the sum of all differences is the sum of the positive ones, which only sources that
      // are present have.
      for (const std::uint32_t source : present_) {
        const double share =
            static_cast<double>(in_slot_[source]) / static_cast<double>(samples) - whole_[source];
        total += std::max(0.0, share);
        in_slot_[source] = 0;
      }
      present_.clear();
    }
    return total / static_cast<double>(slots.size());
  }

 private:
  const ReportInput& input_;
  std::vector<double> whole_;
  std::vector<std::uint64_t> in_slot_;
  std::vector<std::uint32_t> present_;
};

double source_mix(const ReportInput& input, std::span<const FullSlot> slots) {
  if (input.sources.empty() || slots.empty()) return 1;
  SourceDistance distance(input);
  double reference = 0;
  for (std::uint64_t i = 0; i < kReferenceOrders; ++i) {
    const CounterRng rng(input.seed, hash_name("source mix") + i);
    const auto order = random_permutation(static_cast<std::uint32_t>(input.packs.size()), rng);
    reference += distance.mean(slots, order) / static_cast<double>(kReferenceOrders);
  }
  constexpr double kNone = 1e-12;
  return reference <= kNone ? 1.0 : distance.mean(slots, {}) / reference;
}

// Per pack its rows in each stream and its cost.
std::vector<double> pack_loads(const ReportInput& input) {
  const auto streams = static_cast<std::size_t>(input.sizes.num_streams);
  std::vector<double> loads(input.packs.size() * (streams + 1));
  for (std::size_t p = 0; p < input.packs.size(); ++p) {
    double* load = loads.data() + p * (streams + 1);
    for (const std::uint32_t sample : input.packs[p]) {
      for (std::size_t k = 0; k < streams; ++k) {
        const int stream = static_cast<int>(k);
        load[k] += input.sizes.at(sample, stream);
        load[streams] += stream_cost(input.sizes, sample, stream, input.costs[k]);
      }
    }
  }
  return loads;
}

// Makes the rows of the padded stream those of padded mini-batches; returns the share of padding.
double pad_rows(const ReportInput& input, std::vector<double>& loads) {
  const auto columns = static_cast<std::size_t>(input.sizes.num_streams) + 1;
  const auto padded = static_cast<std::size_t>(input.padded_stream);
  double all = 0, padding = 0;
  for (std::size_t p = 0; p < input.packs.size(); ++p) {
    double longest = 0;
    for (const std::uint32_t sample : input.packs[p])
      longest = std::max<double>(longest, input.sizes.at(sample, input.padded_stream));
    double& rows = loads[p * columns + padded];
    const double with_padding = longest * static_cast<double>(input.packs[p].size());
    all += with_padding;
    padding += with_padding - rows;
    rows = with_padding;
  }
  return all > 0 ? padding / all : 0.0;
}

}  // namespace

BalanceReport measure_balance(const ReportInput& input) {
  const auto streams = static_cast<std::size_t>(input.sizes.num_streams);
  GIMBAL_CHECK(input.ranks > 0 && input.packs_per_step > 0, "a report for ", input.ranks,
               " ranks and ", input.packs_per_step, " packs per step");
  GIMBAL_CHECK_EQ(input.costs.size(), streams, "costs and streams");
  GIMBAL_CHECK_LE(input.padded_stream + 1, input.sizes.num_streams, "padded stream");
  GIMBAL_CHECK(input.sources.empty() || input.sources.size() == input.sizes.num_samples(),
               "sources of ", input.sources.size(), " samples of ", input.sizes.num_samples());
  BalanceReport report;
  report.samples_packed = input.packs.samples.size();
  report.packs = input.packs.size();
  report.steps = report.packs == 0 ? 0 : (report.packs - 1) / input.packs_per_step + 1;
  const std::vector<FullSlot> slots = full_slots(input, report.slots);

  std::vector<double> loads = pack_loads(input);
  const std::size_t columns = streams + 1;
  report.fill.resize(streams);
  for (std::size_t k = 0; k < streams; ++k) {
    const double cap = static_cast<double>(input.caps.of(static_cast<int>(k)));
    double rows = 0;
    for (std::size_t p = 0; p < report.packs; ++p) rows += loads[p * columns + k];
    if (cap > 0 && report.packs > 0)
      report.fill[k] = rows / (static_cast<double>(report.packs) * cap);
    report.waste.push_back(mean_waste(slots, loads, k, columns));
  }
  report.cost_waste = mean_waste(slots, loads, streams, columns);
  report.order_correlation = index_correlation(slots, loads, streams, columns);
  report.source_mix_ratio = source_mix(input, slots);
  report.dist_ratio = report.waste;
  if (input.padded_stream >= 0) {
    const auto padded = static_cast<std::size_t>(input.padded_stream);
    report.pad_ratio = pad_rows(input, loads);
    report.dist_ratio[padded] = mean_waste(slots, loads, padded, columns);
  }
  return report;
}

}  // namespace gimbal
