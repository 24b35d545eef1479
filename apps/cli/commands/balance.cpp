// gimbal balance: packs the samples of an epoch and reports how equally the ranks work.
#include <chrono>
#include <filesystem>
#include <iostream>

#include "apps/cli/balance/arguments.h"
#include "apps/cli/balance/input.h"
#include "apps/cli/balance/json.h"
#include "apps/cli/balance/plot.h"
#include "apps/cli/balance/run.h"
#include "apps/cli/balance/setup.h"
#include "apps/cli/balance/table.h"
#include "apps/cli/command.h"
#include "gimbal/balance/pack_file.h"
#include "gimbal/base/error.h"
#include "gimbal/base/file.h"

namespace gimbal::cli {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Before the work, not after it.
void require_folder_of(const std::string& option, const std::string& file) {
  if (file.empty() || file == "-") return;
  const std::filesystem::path folder = std::filesystem::path(file).parent_path();
  GIMBAL_USER_CHECK(folder.empty() || std::filesystem::is_directory(folder), option, " ", file,
                    ": there is no folder ", folder.string(), "; make it first");
}

void write_rejected(const std::string& file, const BalanceSetup& setup,
                    const Screening& screening) {
  std::string lines;
  for (const Rejection& rejection : screening.rejected) {
    const OrderedJson line = {
        {"sample", rejection.sample},
        {"source", setup.table.source_names[setup.table.sources[rejection.sample]]},
        {"place", setup.table.describe_sample(rejection.sample)},
        {"reason", rejection.reason}};
    lines += text_of(line) + "\n";
  }
  write_file_atomic(file, lines);
}

int run_balance(const Arguments& words) {
  const auto start = Clock::now();
  const BalanceArguments arguments = parse_balance_arguments(words);
  require_folder_of("--rejected", arguments.rejected_file);
  require_folder_of("--patterns", arguments.patterns_file);
  require_folder_of("--plot", arguments.plot_file);
  require_folder_of("--packs", arguments.packs_file);
  require_folder_of("--json", arguments.json_file);

  BalanceTimes times;
  BalanceSetup setup(read_balance_input(arguments.files));
  times.read = seconds_since(start);
  resolve(arguments, setup);
  times.caps = setup.chosen_cap ? seconds_since(start) - times.read : 0;
  const BalanceResult result = run_methods(arguments, setup);
  times.total = seconds_since(start);

  const MethodResult& chosen = result.chosen();
  if (!arguments.rejected_file.empty()) {
    const MethodResult* capped = result.capped();  // without one, --rejected is refused
    GIMBAL_CHECK(capped != nullptr, "no method rejects samples");
    write_rejected(arguments.rejected_file, setup, capped->sampler->screening());
  }
  if (!arguments.packs_file.empty()) {
    save_packs({*chosen.packs, setup.table.num_samples(), arguments.packs_per_step(),
                arguments.ranks, arguments.seed, arguments.epoch},
               arguments.packs_file);
  }
  if (arguments.json_file == "-") {
    std::cout << text_of(balance_json(arguments, setup, result, times), 2) << std::endl;
  } else {
    if (!arguments.json_file.empty()) {
      write_file_atomic(arguments.json_file,
                        text_of(balance_json(arguments, setup, result, times), 2) + "\n");
    }
    std::cout << balance_table(arguments, setup, result, times) << std::flush;
  }
  if (!arguments.plot_file.empty()) write_plot(arguments, setup, result);
  return 0;
}

}  // namespace

Command balance_command() {
  return {"balance", "Pack samples so that every rank works equally, and prove it", run_balance};
}

}  // namespace gimbal::cli
