// How well a profile predicts: packs of a dataset that the profile has not seen run through the
// tape, and their times and bytes stand beside those of the cost model. Prints JSON.
#include <ATen/Parallel.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>

#include "gimbal/base/error.h"
#include "gimbal/base/rng.h"
#include "gimbal/config/enums.h"
#include "gimbal/config/load.h"
#include "gimbal/cost/cost_model.h"
#include "gimbal/profile/allocation_meter.h"
#include "gimbal/train/build.h"
#include "gimbal/train/tape/block_levels.h"
#include "gimbal/train/tape/tape_runner.h"
#include "gimbal/train/weights.h"

namespace gimbal {
namespace {

struct AccuracyOptions {
  std::string profile;
  std::vector<std::string> overrides;
  int packs = 20, rounds = 9;
  bool cpu_clock = false;
  std::uint64_t seed = 1;
};

/// Samples in a random order until the pack is full.
std::vector<std::uint32_t> draw_samples(const Dataset& dataset, double tokens,
                                        const CounterRng& rng) {
  std::vector<std::uint32_t> samples;
  double used = 0;
  for (std::uint64_t i = 0;; ++i) {
    const auto sample = static_cast<std::uint32_t>(rng.below(i, dataset.num_samples()));
    used += dataset.sample(sample).num_tokens;
    if (used > tokens && !samples.empty()) return samples;
    samples.push_back(sample);
  }
}

WorkSize work_of_samples(const Dataset& dataset, const std::vector<std::uint32_t>& samples) {
  PackShape shape;
  for (const std::uint32_t i : samples) {
    const SampleRecord& record = dataset.sample(i);
    shape.push_back({record.num_tokens, record.vision_rows, record.num_loss_tokens});
  }
  return work_of(shape);
}

struct Prediction {
  double seconds = 0;
  double peak_bytes = 0;
};

/// A pass at one level, and the most bytes that it holds: what earlier blocks keep, and what one
/// block needs for a moment.
Prediction predict(const CostModel& costs, const WorkSize& work, Recompute level) {
  Prediction result;
  double held = 0;
  for (std::size_t i = 0; i < costs.num_blocks(); ++i) {
    const Recompute own = level_of_block(costs.model().blocks[i], level);
    result.seconds +=
        costs.forward(i, work) + costs.backward(i, work) + costs.recompute(i, work, own);
    held += costs.saved(i, work, own);
    result.peak_bytes = std::max(
        result.peak_bytes,
        held + std::max(costs.forward_workspace(i, work), costs.backward_workspace(i, work, own)));
  }
  return result;
}

struct PackRun {
  Batch batch;
  WorkSize work;
  std::array<std::vector<std::vector<BlockPass>>, 2> passes;  // keep, full
  std::array<double, 2> peak_bytes{};
};

constexpr Recompute kLevels[] = {Recompute::kKeep, Recompute::kFull};

double pass_seconds(const std::vector<BlockPass>& pass) {
  double sum = 0;
  for (const BlockPass& block : pass)
    sum += block.forward_seconds + block.backward_seconds + block.recompute_seconds;
  return sum;
}

Json compare(const CostModel& costs, const PackRun& pack, std::size_t which) {
  const Prediction predicted = predict(costs, pack.work, kLevels[which]);
  std::vector<double> seconds;
  for (const auto& pass : pack.passes[which]) seconds.push_back(pass_seconds(pass));
  const double measured = quantile(seconds, 0.5);
  std::map<std::string, double> by_class;  // predicted / measured - 1 of keep
  if (kLevels[which] == Recompute::kKeep) {
    std::map<std::string, std::pair<double, double>> sums;
    for (std::size_t i = 0; i < costs.num_blocks(); ++i) {
      std::vector<double> values;
      for (const auto& pass : pack.passes[which])
        values.push_back(pass[i].forward_seconds + pass[i].backward_seconds);
      auto& sum = sums[costs.model().blocks[i].cost_class];
      sum.first += costs.forward(i, pack.work) + costs.backward(i, pack.work);
      sum.second += quantile(std::move(values), 0.25);
    }
    for (const auto& [name, sum] : sums) by_class[name] = sum.first / sum.second - 1;
  }
  return {{"level", enum_name(kLevels[which])},
          {"samples", pack.batch.samples.size()},
          {"text_rows", pack.work.text_rows},
          {"text_pairs", pack.work.text_pairs},
          {"vision_rows", pack.work.vision_rows},
          {"loss_rows", pack.work.loss_rows},
          {"measured_seconds", measured},
          {"predicted_seconds", predicted.seconds},
          {"time_error", predicted.seconds / measured - 1},
          {"error_by_class", by_class},
          {"measured_peak_bytes", pack.peak_bytes[which]},
          {"predicted_peak_bytes", predicted.peak_bytes},
          {"peak_error", predicted.peak_bytes / pack.peak_bytes[which] - 1}};
}

std::vector<PackRun> draw_packs(const AccuracyOptions& options, const Recipe& recipe,
                                const Dataset& dataset, const at::Device& device) {
  const ImageProcessor processor(dataset.image_processor());
  std::vector<PackRun> packs;
  for (int i = 0; i < options.packs; ++i) {
    const CounterRng rng(options.seed, static_cast<std::uint64_t>(i));
    // Of other sizes than any that was measured: a quarter of the cap to all of it.
    const double share =
        0.25 + 0.75 * CounterRng(options.seed + 1).uniform(static_cast<std::uint64_t>(i));
    const auto samples =
        draw_samples(dataset, share * static_cast<double>(recipe.balance.text_cap), rng);
    packs.push_back({to_device(collate(dataset, processor, samples), device),
                     work_of_samples(dataset, samples),
                     {},
                     {}});
  }
  return packs;
}

int run(const AccuracyOptions& options) {
  const Recipe recipe =
      load_recipe("", options.overrides, {"model.path", "data.train"}).front().recipe;
  Runtime runtime =
      make_runtime(recipe.train.device, recipe.train.threads, recipe.train.timeout_seconds);
  const AllocationMeter meter(runtime.device);
  const Model model = make_model_of_folder(recipe.model.path);
  const std::unique_ptr<ParameterStore> store = make_replicated_store(
      model.blocks, *runtime.comm, master_dtype(recipe.model.dtype),
      compute_dtype(recipe.model.dtype), runtime.device, [](const Parameter&) { return 0; });
  init_weights(*store, 3);
  store->values_changed();
  const Dataset dataset(recipe.data.train);
  check_dataset_fits(dataset, model, recipe.model.path);
  std::vector<PackRun> packs = draw_packs(options, recipe, dataset, runtime.device);
  TapeRunner runner(model, *store, nullptr, nullptr, runtime.device, recipe.train.loss_chunk_rows,
                    options.cpu_clock ? PassClock::kProcessor : PassClock::kWall);
  for (int round = -1; round < options.rounds; ++round) {
    // As in training, a pack's size is not that of the pass before.
    for (std::size_t which = 0; which < 2; ++which) {
      for (PackRun& pack : packs) {
        auto pass = runner.run(pack.batch, static_cast<PassMode>(kLevels[which]));
        if (round < 0) continue;  // meets the size for the first time
        pack.passes[which].push_back(std::move(pass));
        pack.peak_bytes[which] = std::max(pack.peak_bytes[which], runner.peak_bytes());
      }
    }
  }

  CostSettings settings;
  settings.frozen.assign(model.desc.blocks.size(), false);
  const CostModel costs(model.desc, load_profile(options.profile), settings);
  Json lines = Json::array();
  for (const PackRun& pack : packs) {
    for (std::size_t which = 0; which < 2; ++which) lines.push_back(compare(costs, pack, which));
  }
  std::cout << Json{{"threads", at::get_num_threads()}, {"packs", lines}}.dump() << "\n";
  return 0;
}

}  // namespace
}  // namespace gimbal

int main(int argc, char** argv) {
  CLI::App app("Compares a profile with unseen packs");
  gimbal::AccuracyOptions options;
  app.add_option("--profile", options.profile)->required();
  app.add_option("--packs", options.packs);
  app.add_option("--rounds", options.rounds);
  app.add_option("--seed", options.seed);
  app.add_flag("--cpu-clock", options.cpu_clock);
  app.add_option("overrides", options.overrides);
  CLI11_PARSE(app, argc, argv);
  try {
    return gimbal::run(options);
  } catch (const gimbal::UserError& error) {
    std::cerr << error.what() << "\n";
    return 2;
  }
}
