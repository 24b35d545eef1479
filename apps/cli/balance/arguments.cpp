#include "apps/cli/balance/arguments.h"

#include <algorithm>
#include <array>
#include <limits>

#include "apps/cli/option_values.h"
#include "gimbal/base/error.h"
#include "gimbal/config/problems.h"

namespace gimbal::cli {
namespace {

constexpr std::uint64_t kMostRows = std::uint64_t{1} << 63;

constexpr const char* kExamples =
    "Examples:\n"
    "  gimbal balance a.csv b.csv --cap vision=16 --cap tokens=5376 --ranks 8\n"
    "  gimbal balance lengths.parquet --cap tokens=8192 --cap vision=auto --compare --plot "
    "out.html\n"
    "  gimbal balance data/train --cap text=4096 --model MODEL --bound lp --json -\n"
    "  gimbal balance a.csv b.csv --cap tokens=4096 --source a=0.5 --packs packs.bin\n"
    "\n"
    "FILES are CSV files whose first line names the streams (vision,tokens), Parquet files, .npy "
    "or .npz\n"
    "files, or one dataset folder of `gimbal prepare`. Each file is a source. A CSV column "
    "NAME.pairs holds "
    "what\n"
    "attends in stream NAME: the sum of squared lengths; without it, rows^2.\n"
    "Exit code: 0, 1 (failed) or 2 (bad input).\n";

template <typename T, std::size_t N>
using Choices = std::array<std::pair<const char*, T>, N>;

constexpr Choices<PackMethod, 5> kMethods = {{{"gimbal", PackMethod::kGimbal},
                                              {"isf", PackMethod::kIsf},
                                              {"bfd", PackMethod::kBestFitDecreasing},
                                              {"random", PackMethod::kRandom},
                                              {"length", PackMethod::kLength}}};
constexpr Choices<BoundKind, 2> kBounds = {{{"fast", BoundKind::kFast}, {"lp", BoundKind::kLp}}};
constexpr Choices<OversizePolicy, 3> kPolicies = {{{"error", OversizePolicy::kError},
                                                   {"reject", OversizePolicy::kReject},
                                                   {"alone", OversizePolicy::kAlone}}};

// The words as they were given; numbers are read by option_values.h, whose messages say more.
struct RawArguments {
  std::vector<std::string> caps, sources, costs, bytes_per_row;
  std::string cap_cost, samples_per_pack, ranks, accumulate, rounds, seed, epoch, memory, overhead;
  std::string method = "gimbal", bound, oversize;
};

template <typename T>
void require_once(const std::string& option, const std::vector<std::pair<std::string, T>>& list) {
  for (auto entry = list.begin(); entry != list.end(); ++entry) {
    GIMBAL_USER_CHECK(std::none_of(list.begin(), entry,
                                   [&](const auto& other) { return other.first == entry->first; }),
                      option, " ", entry->first, ": is given twice; leave one of them out");
  }
}

std::vector<CapArgument> read_caps(const std::vector<std::string>& words) {
  std::vector<CapArgument> caps;
  for (const std::string& word : words) {
    const auto [name, value] =
        split_name("--cap", word, "NAME=ROWS or NAME=auto, for example vision=16");
    for (const CapArgument& cap : caps) {
      GIMBAL_USER_CHECK(cap.stream != name, "--cap ", name,
                        ": is given twice; leave one of them out");
    }
    if (value == "auto") {
      caps.push_back({name, 0, true});
    } else {
      caps.push_back({name, whole_number("--cap " + name, value, 1, kMostRows), false});
    }
  }
  GIMBAL_USER_CHECK(std::count_if(caps.begin(), caps.end(),
                                  [](const CapArgument& cap) { return cap.automatic; }) <= 1,
                    "--cap: more than one cap is auto; give rows for all but one of them");
  return caps;
}

StreamCost read_cost(const std::string& option, const std::string& text) {
  const std::size_t comma = text.find(',');
  StreamCost cost;
  cost.per_row = real_number(option, text.substr(0, comma));
  cost.per_pair = comma == std::string::npos ? 0 : real_number(option, text.substr(comma + 1));
  return cost;
}

// Options that would change nothing are mistakes.
void check_use(const BalanceArguments& arguments, const RawArguments& raw) {
  const auto uses = [&](PackMethod method) {
    return arguments.compare || arguments.method == method;
  };
  GIMBAL_USER_CHECK(raw.rounds.empty() || uses(PackMethod::kIsf),
                    "--rounds: counts with --method isf or --compare only");
  GIMBAL_USER_CHECK(arguments.patterns_file.empty() || uses(PackMethod::kGimbal),
                    "--patterns: counts with --method gimbal or --compare only");
  const bool keeps_caps = arguments.compare || !is_padded(arguments.method);
  GIMBAL_USER_CHECK(raw.oversize.empty() || keeps_caps,
                    "--oversize: caps do not apply to --method ", method_name(arguments.method),
                    ", which packs every sample; leave it out");
  GIMBAL_USER_CHECK(raw.bound.empty() || keeps_caps, "--bound: caps do not apply to --method ",
                    method_name(arguments.method), ", so there is no bound; leave it out");
  GIMBAL_USER_CHECK(
      arguments.rejected_file.empty() || arguments.oversize == OversizePolicy::kReject,
      "--rejected: samples are rejected with --oversize reject only; give it too");
  GIMBAL_USER_CHECK(arguments.memory_bytes == 0 || arguments.cap_is_sought(),
                    "--memory: is for choosing a cap; give --cap NAME=auto with it");
  GIMBAL_USER_CHECK(arguments.bytes_per_row.empty() || arguments.memory_bytes > 0,
                    "--bytes-per-row: is for a memory budget; give --memory BYTES with it");
  // A page shows the curve of each cap that another limit stands beside.
  const bool curves = !arguments.plot_file.empty() && !arguments.caps.empty() &&
                      arguments.caps.size() + (arguments.samples_per_pack > 0 ? 1U : 0U) +
                              (arguments.cap_cost > 0 ? 1U : 0U) >
                          1;
  GIMBAL_USER_CHECK(raw.overhead.empty() || arguments.cap_is_sought() || curves,
                    "--pack-overhead: is for choosing a cap; give --cap NAME=auto with it, or "
                    "--plot and two limits, for their curves");
}

template <typename T, std::size_t N>
T choice(const std::string& option, const std::string& word, const Choices<T, N>& choices) {
  std::vector<std::string> names;
  std::string list;
  for (const auto& [name, value] : choices) {
    if (word == name) return value;
    names.emplace_back(name);
    list += (list.empty() ? "" : ", ") + names.back();
  }
  const std::string meant = nearest(word, names);
  throw UserError(concat(option, ": found '", word, "', expected one of ", list,
                         meant.empty() ? "" : "; did you mean " + meant + "?"));
}

BalanceArguments converted(BalanceArguments arguments, const RawArguments& raw) {
  constexpr std::uint64_t kMost = std::numeric_limits<std::uint64_t>::max();
  constexpr std::uint64_t kMostRanks = std::uint64_t{1} << 31;
  const auto number = [](const char* option, const std::string& text, std::uint64_t least,
                         std::uint64_t most, std::uint64_t fallback) {
    return text.empty() ? fallback : whole_number(option, text, least, most);
  };
  arguments.caps = read_caps(raw.caps);
  if (!raw.cap_cost.empty()) arguments.cap_cost = positive_number("--cap-cost", raw.cap_cost);
  arguments.samples_per_pack = number("--samples-per-pack", raw.samples_per_pack, 1, kMostRanks, 0);
  arguments.ranks = number("--ranks", raw.ranks, 1, kMostRanks, arguments.ranks);
  arguments.accumulate = number("--accumulate", raw.accumulate, 1, kMostRanks, 1);
  arguments.rounds = static_cast<int>(number("--rounds", raw.rounds, 0, 1'000'000, 50));
  arguments.seed = number("--seed", raw.seed, 0, kMost, 0);
  arguments.epoch = number("--epoch", raw.epoch, 0, kMost - 1, 0);
  arguments.method = choice("--method", raw.method, kMethods);
  if (!raw.bound.empty()) arguments.bound = choice("--bound", raw.bound, kBounds);
  if (!raw.oversize.empty()) arguments.oversize = choice("--oversize", raw.oversize, kPolicies);
  for (const std::string& word : raw.sources) {
    const auto [name, value] = split_name("--source", word, "NAME=WEIGHT, for example docs=0.5");
    arguments.source_weights.emplace_back(name, real_number("--source " + name, value));
  }
  require_once("--source", arguments.source_weights);
  for (const std::string& word : raw.costs) {
    const auto [name, value] = split_name(
        "--cost", word, "NAME=PER_ROW or NAME=PER_ROW,PER_PAIR, for example tokens=1,2e-5");
    arguments.costs.emplace_back(name, read_cost("--cost " + name, value));
  }
  require_once("--cost", arguments.costs);
  if (!raw.memory.empty()) arguments.memory_bytes = byte_count("--memory", raw.memory);
  for (const std::string& word : raw.bytes_per_row) {
    const auto [name, value] =
        split_name("--bytes-per-row", word, "NAME=BYTES, for example tokens=200K");
    arguments.bytes_per_row.emplace_back(name, byte_count("--bytes-per-row " + name, value));
  }
  require_once("--bytes-per-row", arguments.bytes_per_row);
  if (!raw.overhead.empty()) {
    arguments.pack_overhead = real_number("--pack-overhead", raw.overhead);
  }
  check_use(arguments, raw);
  return arguments;
}

}  // namespace

bool BalanceArguments::cap_is_sought() const {
  return std::any_of(caps.begin(), caps.end(),
                     [](const CapArgument& cap) { return cap.automatic; });
}

std::string method_name(PackMethod method) {
  for (const auto& [name, value] : kMethods) {
    if (value == method) return name;
  }
  throw_internal(__FILE__, __LINE__, "method", "unknown method");
}

BalanceArguments parse_balance_arguments(const Arguments& words) {
  CLI::App app(
      "Packs samples so that every rank works equally, and says how near that is to the "
      "bound.",
      "gimbal balance");
  BalanceArguments arguments;
  RawArguments raw;
  const auto option = [&app](const char* name, auto& value, const char* text, const char* help) {
    return app.add_option(name, value, help)->option_text(text);
  };
  const auto repeated = [&](const char* name, auto& value, const char* text, const char* help) {
    return option(name, value, text, help)->allow_extra_args(false);
  };
  option("FILES", arguments.files, "FILE ...",
         "CSV, Parquet, .npy or .npz files, or a dataset folder")
      ->required();
  repeated("--cap", raw.caps, "NAME=ROWS|auto", "Most rows of a stream in a pack (repeatable)");
  option("--cap-cost", raw.cap_cost, "COST", "Highest cost of a pack");
  option("--samples-per-pack", raw.samples_per_pack, "N",
         "Most samples in a pack; of random and length, the samples of each mini-batch (without it "
         "as many as gimbal packs on average)");
  option("--ranks", raw.ranks, "N", "Data-parallel ranks [8]");
  option("--accumulate", raw.accumulate, "N", "Packs of each rank per optimizer step [1]");
  option("--method", raw.method, "NAME",
         "gimbal, isf (OmniBal, Algorithm 1), bfd (best fit decreasing), random, length [gimbal]");
  option("--rounds", raw.rounds, "N", "Rounds of isf [50]");
  option("--seed", raw.seed, "N", "Seed of the order [0]");
  option("--epoch", raw.epoch, "N", "Epoch; each has other packs [0]");
  option("--bound", raw.bound, "fast|lp",
         "Lower bound on the packs; lp takes seconds, about 60 at most [fast]");
  repeated("--source", raw.sources, "NAME=WEIGHT",
           "How often each sample of a source occurs per epoch [1] (repeatable)");
  CLI::Option* cost = repeated("--cost", raw.costs, "NAME=PER_ROW[,PER_PAIR]",
                               "Cost of a stream's rows, and of pairs that attend (repeatable)");
  CLI::Option* costs =
      option("--costs", arguments.costs_file, "FILE", "Costs of all streams, from a JSON file");
  CLI::Option* model = option("--model", arguments.model, "FOLDER",
                              "Costs from the config.json of a Hugging Face model folder");
  cost->excludes(costs)->excludes(model);
  costs->excludes(model);
  option("--oversize", raw.oversize, "error|reject|alone",
         "What to do with samples above a cap [error]");
  option("--rejected", arguments.rejected_file, "FILE",
         "For --oversize reject: list of the rejected samples (JSON lines)");
  option("--patterns", arguments.patterns_file, "FILE",
         "Patterns that were solved before; solved and saved when there are none for these caps");
  option("--memory", raw.memory, "BYTES", "For --cap NAME=auto: memory of a pack (K, M, G, T)");
  repeated("--bytes-per-row", raw.bytes_per_row, "NAME=BYTES",
           "For --memory: memory of a row of a stream (repeatable)");
  option("--pack-overhead", raw.overhead, "COST",
         "For --cap NAME=auto: fixed cost of a pack, in the unit of the costs [2 % of a pack]");
  app.add_flag("--compare", arguments.compare, "Run all methods and show them side by side");
  option("--plot", arguments.plot_file, "FILE", "Pictures, as one HTML page");
  option("--packs", arguments.packs_file, "FILE",
         "The packs, as a binary file (docs/balance_command.md)");
  option("--json", arguments.json_file, "FILE", "The figures; -: on stdout, in place of the table");
  app.footer(kExamples);
  parse(app, words);
  return converted(std::move(arguments), raw);
}

}  // namespace gimbal::cli
