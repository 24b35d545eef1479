#include "apps/cli/balance/plot.h"

#include <algorithm>

#include "apps/cli/process.h"

namespace gimbal::cli {
namespace {

constexpr std::uint64_t kShownSlots = 200;  // at each end
constexpr std::size_t kFillBins = 50;       // one more holds what is above the reference

// Rows of a pack in each stream, then its cost.
std::vector<double> loads_of(const BalanceSetup& setup, std::span<const std::uint32_t> pack) {
  const SampleSizes sizes = setup.sizes();
  std::vector<double> loads(setup.num_streams() + 1);
  for (const std::uint32_t sample : pack) {
    for (std::size_t k = 0; k < setup.num_streams(); ++k) {
      loads[k] += sizes.at(sample, static_cast<int>(k));
    }
    loads.back() += sample_cost(sizes, sample, setup.options.costs);
  }
  return loads;
}

// {first_slot, loads: {stream: [[rank, ...], ...], cost: ...}} of `count` full slots.
OrderedJson slots_json(const BalanceSetup& setup, const Packs& packs, std::uint64_t ranks,
                       std::uint64_t first, std::uint64_t count) {
  std::vector<std::string> names = setup.table.streams;
  names.emplace_back("cost");
  std::vector<OrderedJson> tables(names.size(), OrderedJson::array());
  for (std::uint64_t slot = first; slot < first + count; ++slot) {
    std::vector<OrderedJson> rows(names.size(), OrderedJson::array());
    for (std::uint64_t rank = 0; rank < ranks; ++rank) {
      const std::vector<double> loads = loads_of(setup, packs[slot * ranks + rank]);
      for (std::size_t i = 0; i < names.size(); ++i) rows[i].push_back(loads[i]);
    }
    for (std::size_t i = 0; i < names.size(); ++i) tables[i].push_back(std::move(rows[i]));
  }
  OrderedJson loads = OrderedJson::object();
  for (std::size_t i = 0; i < names.size(); ++i) loads[names[i]] = std::move(tables[i]);
  return {{"first_slot", first}, {"loads", std::move(loads)}};
}

std::vector<std::uint64_t> pack_rows(const BalanceSetup& setup, const Packs& packs, int stream) {
  const SampleSizes sizes = setup.sizes();
  std::vector<std::uint64_t> rows(packs.size());
  for (std::size_t p = 0; p < packs.size(); ++p) {
    for (const std::uint32_t sample : packs[p]) rows[p] += sizes.at(sample, stream);
  }
  return rows;
}

OrderedJson histogram_json(const std::vector<std::uint64_t>& rows, std::uint64_t reference) {
  std::vector<std::uint64_t> counts(kFillBins + 1);
  for (const std::uint64_t value : rows) {
    if (value > reference) {
      ++counts[kFillBins];
    } else {
      const double share = static_cast<double>(value) / static_cast<double>(reference);
      ++counts[std::min(kFillBins - 1, static_cast<std::size_t>(share * kFillBins))];
    }
  }
  return {{"reference", reference}, {"counts", counts}};
}

OrderedJson method_plot_json(const BalanceArguments& arguments, const BalanceSetup& setup,
                             const BalanceResult& result, const MethodResult& method,
                             std::span<const std::uint64_t> references) {
  OrderedJson json = method_json(setup, result, method);
  const std::uint64_t ranks = arguments.ranks;
  const std::uint64_t full_slots = method.packs->size() / ranks;
  const std::uint64_t head = std::min(full_slots, kShownSlots);
  const std::uint64_t tail = std::min(full_slots - head, kShownSlots);
  json["head"] = slots_json(setup, *method.packs, ranks, 0, head);
  json["tail"] = tail == 0 ? OrderedJson(nullptr)
                           : slots_json(setup, *method.packs, ranks, full_slots - tail, tail);
  OrderedJson histograms = OrderedJson::object();
  for (std::size_t k = 0; k < setup.num_streams(); ++k) {
    histograms[setup.table.streams[k]] =
        histogram_json(pack_rows(setup, *method.packs, static_cast<int>(k)), references[k]);
  }
  json["fill_histogram"] = std::move(histograms);
  return json;
}

// Also of caps that were given, where the other limits and the data give a curve.
OrderedJson curves_json(const BalanceArguments& arguments, const BalanceSetup& setup) {
  OrderedJson curves = OrderedJson::array();
  const PackCaps& caps = setup.options.caps;
  for (std::size_t k = 0; k < setup.num_streams(); ++k) {
    const int stream = static_cast<int>(k);
    if (setup.chosen_cap && setup.chosen_cap->stream == stream) {
      curves.push_back(curve_json(setup, *setup.chosen_cap));
      continue;
    }
    if (caps.of(stream) == 0) continue;
    const CapSearch search = cap_search(arguments, setup, stream);
    if (!can_choose_cap(setup.sizes(), search)) continue;
    curves.push_back(curve_json(setup, {stream, false, choose_cap(setup.sizes(), search)}));
  }
  return curves;
}

}  // namespace

OrderedJson plot_json(const BalanceArguments& arguments, const BalanceSetup& setup,
                      const BalanceResult& result) {
  const MethodResult& chosen = result.chosen();
  const PackCaps& caps = setup.options.caps;
  std::vector<std::uint64_t> references;
  for (std::size_t k = 0; k < setup.num_streams(); ++k) {
    const int stream = static_cast<int>(k);
    std::uint64_t reference = caps.of(stream);
    if (reference == 0) {
      const auto rows = pack_rows(setup, *chosen.packs, stream);
      reference = rows.empty() ? 0 : *std::max_element(rows.begin(), rows.end());
    }
    references.push_back(std::max<std::uint64_t>(reference, 1));
  }
  OrderedJson methods = OrderedJson::array();
  for (const MethodResult& method : result.methods) {
    methods.push_back(method_plot_json(arguments, setup, result, method, references));
  }
  return {{"format", "gimbal-balance-plot"},
          {"version", 1},
          {"files", arguments.files},
          {"streams", setup.table.streams},
          {"caps", caps_json(setup)},
          {"cap_cost", caps.cost > 0 ? OrderedJson(caps.cost) : OrderedJson(nullptr)},
          {"cap_samples", caps.samples > 0 ? OrderedJson(caps.samples) : OrderedJson(nullptr)},
          {"ranks", arguments.ranks},
          {"accumulate", arguments.accumulate},
          {"seed", arguments.seed},
          {"epoch", arguments.epoch},
          {"samples_in", chosen.report.samples_in},
          {"samples_packed", chosen.report.samples_packed},
          {"samples_rejected", chosen.report.samples_rejected},
          // 0 where caps apply to no method: no bound is known.
          {"packs_lower_bound", result.bound().value_or(0)},
          {"bound", result.bound_name()},
          {"sources", sources_json(setup, result)},
          {"methods", std::move(methods)},
          {"cap_curves", curves_json(arguments, setup)}};
}

void write_plot(const BalanceArguments& arguments, const BalanceSetup& setup,
                const BalanceResult& result) {
  const std::string data = inherited_file(text_of(plot_json(arguments, setup, result)));
  run_python({"gimbal.balance.plot", data, "--out", arguments.plot_file});
}

}  // namespace gimbal::cli
