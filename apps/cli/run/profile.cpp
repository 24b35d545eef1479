#include "gimbal/train/profile_run.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <iostream>

#include "apps/cli/run/command.h"
#include "gimbal/base/log.h"
#include "gimbal/config/load.h"
#include "gimbal/cost/profile_text.h"

namespace gimbal::cli {
namespace {

/// A line that is rewritten on a terminal; elsewhere a line per new task.
class ProfileProgress {
 public:
  void show(const std::string& what, double share) {
    const int percent = static_cast<int>(100 * share);
    if (terminal_) {
      if (what == what_ && percent == percent_) return;
      std::cerr << "\r" << what << " " << percent << " %\033[K" << std::flush;
    } else if (what != what_) {
      log_info("profile: " + what);
    }
    what_ = what;
    percent_ = percent;
  }
  ~ProfileProgress() {
    if (terminal_ && !what_.empty()) std::cerr << "\r\033[K" << std::flush;
  }

 private:
  bool terminal_ = ::isatty(STDERR_FILENO) == 1;
  std::string what_;
  int percent_ = -1;
};

void warn_of_residuals(const ProfileTable& table) {
  constexpr double kMost = 0.05;
  for (const auto& [name, cost] : table.blocks) {
    if (cost.residual <= kMost) continue;
    log_warning("times of " + name + " blocks follow their line only within " +
                std::to_string(static_cast<int>(100 * cost.residual + 0.5)) +
                " %: stop other programs on this machine and use more --seconds");
  }
}

}  // namespace

int run_profile(const Arguments& arguments) {
  CLI::App app;
  std::string recipe_file, out, clock;
  std::vector<std::string> overrides;
  ProfileRunOptions options;
  bool json = false;
  app.add_option("--recipe", recipe_file);
  app.add_option("--out", out)->required();
  app.add_option("--seconds", options.seconds)->required();
  app.add_option("--clock", clock)->required();
  app.add_flag("--json", json);
  app.add_option("overrides", overrides);
  app.parse(Arguments(arguments.rbegin(), arguments.rend()));
  options.clock = clock == "cpu" ? PassClock::kProcessor : PassClock::kWall;
  const Recipe recipe = load_recipe(recipe_file, overrides, {"model.path"}).front().recipe;

  Runtime runtime =
      make_runtime(recipe.train.device, recipe.train.threads, recipe.train.timeout_seconds);
  ProfileRun run;
  {
    ProfileProgress progress;
    if (runtime.is_main()) {
      options.progress = [&](const std::string& what, double share) { progress.show(what, share); };
    }
    run = profile_run(recipe, options, runtime);
  }
  if (!runtime.is_main()) return 0;
  for (const std::string& warning : run.warnings) log_warning(warning);
  warn_of_residuals(run.table);
  save_profile(run.table, out);
  std::cout << (json ? to_json(run.table).dump(2) + "\n"
                     : to_text(run.table) + "written to " + out + "\n")
            << std::flush;
  return 0;
}

}  // namespace gimbal::cli
