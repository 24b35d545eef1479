#include "apps/cli/balance/setup.h"

#include <algorithm>

#include "apps/cli/balance/costs.h"
#include "apps/cli/balance/names.h"
#include "gimbal/base/error.h"

namespace gimbal::cli {
namespace {

// The caps as given; 0 where there is none or it is to be chosen.
PackCaps given_caps(const BalanceArguments& arguments, const LengthTable& table) {
  PackCaps caps;
  caps.rows.resize(table.streams.size());
  for (const CapArgument& cap : arguments.caps) {
    caps.rows[index_of("--cap", cap.stream, "stream", table.streams)] = cap.rows;
  }
  caps.samples = arguments.samples_per_pack;
  caps.cost = arguments.cap_cost;
  return caps;
}

void require_cap(const BalanceArguments& arguments, const LengthTable& table) {
  const bool any =
      !arguments.caps.empty() || arguments.cap_cost > 0 || arguments.samples_per_pack > 0;
  GIMBAL_USER_CHECK(any, "no cap is given, so one pack would hold every sample; give --cap ",
                    table.streams.back(), "=ROWS for the streams that fill memory (",
                    joined(table.streams), "), or --cap-cost or --samples-per-pack");
}

void resolve_sources(const BalanceArguments& arguments, LengthTable& table,
                     SamplerOptions& options) {
  std::vector<double> weights = table.source_weights;
  for (const auto& [name, weight] : arguments.source_weights) {
    weights[index_of("--source", name, "source", table.source_names)] = weight;
  }
  if (std::any_of(weights.begin(), weights.end(), [](double weight) { return weight != 1; })) {
    options.source_weights = weights;
  }
  if (table.source_names.size() > 1 || !options.source_weights.empty()) {
    options.sources = table.sources;
  }
  table.source_weights = std::move(weights);
}

void resolve_memory(const BalanceArguments& arguments, BalanceSetup& setup) {
  if (arguments.memory_bytes == 0) return;
  setup.bytes_per_row.assign(setup.num_streams(), -1);
  for (const auto& [name, bytes] : arguments.bytes_per_row) {
    setup.bytes_per_row[index_of("--bytes-per-row", name, "stream", setup.table.streams)] = bytes;
  }
  for (std::size_t k = 0; k < setup.num_streams(); ++k) {
    GIMBAL_USER_CHECK(setup.bytes_per_row[k] >= 0, "--memory: give --bytes-per-row ",
                      setup.table.streams[k], "=BYTES as well");
  }
}

}  // namespace

SampleSizes BalanceSetup::sizes() const {
  return {table.rows, static_cast<int>(table.streams.size()), table.pairs, table.streams};
}

void resolve(const BalanceArguments& arguments, BalanceSetup& setup) {
  LengthTable& table = setup.table;
  SamplerOptions& options = setup.options;
  for (const char* taken : {"cost", "samples"}) {
    GIMBAL_USER_CHECK(
        std::find(table.streams.begin(), table.streams.end(), taken) == table.streams.end(),
        table.files.front().name, ": a stream named '", taken,
        "' cannot be told from the figure of that name; rename the column");
  }
  require_cap(arguments, table);
  options.method = arguments.method;
  options.caps = given_caps(arguments, table);
  options.costs = resolve_costs(arguments, options.caps, setup.sizes());
  options.packs_per_step = arguments.packs_per_step();
  options.packs_per_slot = arguments.ranks;
  options.samples_per_group = arguments.samples_per_pack;
  options.length_stream = length_stream(table);
  options.isf_rounds = arguments.rounds;
  options.oversize = arguments.oversize;
  options.seed = arguments.seed;
  options.describe = [&table](std::uint32_t sample) { return table.describe_sample(sample); };
  resolve_sources(arguments, table, options);
  resolve_memory(arguments, setup);
  for (const CapArgument& cap : arguments.caps) {
    if (!cap.automatic) continue;
    const auto stream = index_of("--cap", cap.stream, "stream", table.streams);
    const CapSearch search = cap_search(arguments, setup, static_cast<int>(stream));
    setup.chosen_cap = CapCurve{search.stream, true, choose_cap(setup.sizes(), search)};
    options.caps = setup.chosen_cap->choice.caps;
  }
}

CapSearch cap_search(const BalanceArguments& arguments, const BalanceSetup& setup, int stream) {
  CapSearch search;
  search.stream = stream;
  search.caps = setup.options.caps;
  search.costs = setup.options.costs;
  search.pack_overhead = arguments.pack_overhead;
  search.ranks = arguments.ranks;
  search.memory_bytes = arguments.memory_bytes;
  search.bytes_per_row = setup.bytes_per_row;
  search.seed = arguments.seed;
  return search;
}

int length_stream(const LengthTable& table) {
  const std::size_t streams = table.streams.size();
  for (const char* name : {"text", "tokens"}) {
    const auto at = std::find(table.streams.begin(), table.streams.end(), name);
    if (at != table.streams.end()) return static_cast<int>(at - table.streams.begin());
  }
  std::vector<std::uint64_t> rows(streams);
  for (std::size_t i = 0; i < table.rows.size(); ++i) rows[i % streams] += table.rows[i];
  return static_cast<int>(std::max_element(rows.begin(), rows.end()) - rows.begin());
}

}  // namespace gimbal::cli
