#include "gimbal/profile/measure_blocks.h"

#include <algorithm>
#include <chrono>

#include "gimbal/base/error.h"
#include "gimbal/base/rng.h"

namespace gimbal {
namespace {

// Of a block's times: robust against other programs, which makes the shares of a pass right. Of a
// whole pass: what it takes as a rule, with what disturbs it as a rule.
constexpr double kQuartile = 0.25, kMedian = 0.5;

double elapsed_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

/// All rounds of one pack in one mode: rounds[r][block].
using PassRounds = std::vector<std::vector<BlockPass>>;

/// The quartile of each block's times, scaled to the median of their sum. `member`: which time.
void reduce_times(const PassRounds& rounds, double BlockPass::*member,
                  std::vector<BlockPass>& result) {
  std::vector<double> sums;
  for (const auto& round : rounds) {
    double sum = 0;
    for (const BlockPass& block : round) sum += block.*member;
    sums.push_back(sum);
  }
  double sum_of_quartiles = 0;
  for (std::size_t block = 0; block < result.size(); ++block) {
    std::vector<double> values;
    for (const auto& round : rounds) values.push_back(round[block].*member);
    result[block].*member = quantile(std::move(values), kQuartile);
    sum_of_quartiles += result[block].*member;
  }
  if (sum_of_quartiles <= 0) return;
  const double scale = quantile(std::move(sums), kMedian) / sum_of_quartiles;
  for (BlockPass& block : result) block.*member *= scale;
}

std::vector<BlockPass> reduce_rounds(const PassRounds& rounds) {
  std::vector<BlockPass> result(rounds.front().size());
  reduce_times(rounds, &BlockPass::forward_seconds, result);
  reduce_times(rounds, &BlockPass::backward_seconds, result);
  reduce_times(rounds, &BlockPass::recompute_seconds, result);
  for (const auto& round : rounds) {
    for (std::size_t block = 0; block < result.size(); ++block) {
      for (double BlockPass::*bytes : {&BlockPass::saved_bytes, &BlockPass::forward_peak_bytes,
                                       &BlockPass::backward_peak_bytes}) {
        result[block].*bytes = std::max(result[block].*bytes, round[block].*bytes);
      }
    }
  }
  return result;
}

/// Leaves out the largest packs whose two rounds do not fit into the seconds; keeps at least four.
std::int64_t drop_large_packs(std::vector<PackShape>& packs, double seconds_per_row,
                              double seconds) {
  constexpr std::size_t kLeast = 4;
  double rows = 0;
  for (const PackShape& pack : packs) rows += work_of(pack).text_rows;
  std::int64_t dropped = 0;
  while (packs.size() > kLeast &&
         2 * static_cast<double>(kNumPassModes) * rows * seconds_per_row > seconds) {
    const double largest = work_of(packs.back()).text_rows;
    dropped = static_cast<std::int64_t>(largest);
    rows -= largest;
    packs.pop_back();
  }
  return dropped;
}

}  // namespace

double quantile(std::vector<double> values, double q) {
  GIMBAL_CHECK(!values.empty() && q >= 0 && q <= 1, "quantile ", q, " of ", values.size());
  std::ranges::sort(values);
  const double place = q * static_cast<double>(values.size() - 1);
  const auto low = static_cast<std::size_t>(place);
  const std::size_t high = std::min(low + 1, values.size() - 1);
  return values[low] + (place - static_cast<double>(low)) * (values[high] - values[low]);
}

BlockMeasurements measure_blocks(PassRunner& runner, std::vector<PackShape> packs,
                                 const std::function<Batch(const PackShape&)>& make_batch,
                                 const MeasureOptions& options) {
  GIMBAL_CHECK(!packs.empty(), "packs to measure");
  constexpr int kLeastRounds = 2;
  const auto begin = std::chrono::steady_clock::now();
  // The first passes choose and compile kernels and are not counted.
  const Batch smallest = make_batch(packs.front());
  for (std::size_t mode = 0; mode < kNumPassModes; ++mode)
    runner.run(smallest, static_cast<PassMode>(mode));
  double pass_seconds = 0;
  for (int i = 0; i < 3; ++i) {
    const auto start = std::chrono::steady_clock::now();
    runner.run(smallest, PassMode::kFull);
    pass_seconds = i == 0 ? elapsed_since(start) : std::min(pass_seconds, elapsed_since(start));
  }
  BlockMeasurements result;
  result.dropped_tokens =
      drop_large_packs(packs, pass_seconds / work_of(packs.front()).text_rows, options.seconds);

  std::vector<Batch> batches;
  for (const PackShape& pack : packs) batches.push_back(make_batch(pack));
  std::vector<std::array<PassRounds, kNumPassModes>> rounds(packs.size());
  double last_round_seconds = 0;
  // A random order, the same for all: between two passes of a pack lie those of all others, so
  // that none finds its own values in a cache.
  const auto order = random_permutation(static_cast<std::uint32_t>(packs.size()),
                                        CounterRng(options.seed, hash_name("order of packs")));
  // Libraries prepare kernels when they first meet a size: no part of what a pass costs for good.
  for (const std::uint32_t pack : order) runner.run(batches[pack], PassMode::kKeep);
  for (int round = 0; round < options.max_rounds; ++round) {
    // A round counts when all of it fits, as long as there are enough.
    if (round >= kLeastRounds && elapsed_since(begin) + last_round_seconds > options.seconds) break;
    const auto round_begin = std::chrono::steady_clock::now();
    for (std::size_t mode = 0; mode < kNumPassModes; ++mode) {
      for (const std::uint32_t pack : order) {
        rounds[pack][mode].push_back(runner.run(batches[pack], static_cast<PassMode>(mode)));
        if (options.progress)
          options.progress(std::min(1.0, elapsed_since(begin) / options.seconds));
      }
    }
    last_round_seconds = elapsed_since(round_begin);
    result.rounds = round + 1;
  }
  for (std::size_t pack = 0; pack < packs.size(); ++pack) {
    PackCosts costs;
    costs.work = work_of(packs[pack]);
    for (std::size_t mode = 0; mode < kNumPassModes; ++mode)
      costs.modes[mode] = reduce_rounds(rounds[pack][mode]);
    result.packs.push_back(std::move(costs));
  }
  result.seconds = elapsed_since(begin);
  return result;
}

}  // namespace gimbal
