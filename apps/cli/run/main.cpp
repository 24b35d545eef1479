// gimbal-run: the half of the command line that computes.
#include <sys/prctl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <exception>
#include <functional>
#include <iostream>
#include <map>

#include "apps/cli/run/command.h"
#include "gimbal/base/error.h"
#include "gimbal/train/report_error.h"

namespace gimbal::cli {
namespace {

constexpr const char* kUsage =
    "gimbal-run is the half of gimbal that computes. `gimbal COMMAND` checks its words and starts "
    "it;\n"
    "on several machines, torchrun does:\n"
    "\n"
    "  torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:29400 \\\n"
    "      --no-python gimbal-run train recipe.yaml KEY=VALUE ...\n"
    "\n"
    "`gimbal train --help` lists the options of a recipe, `gimbal --help` the commands.\n";

bool is_help(const std::string& word) { return word == "--help" || word == "-h"; }

/// With --nproc, this process ends with its launcher, however that ends.
void end_with_launcher() {
  const char* launcher = std::getenv("GIMBAL_LAUNCHER");
  if (launcher == nullptr) return;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  // It may have ended before that.
  if (std::to_string(::getppid()) != launcher) ::_exit(1);
}

int run(int argc, char** argv) {
  if (argc > 1 && std::any_of(argv + 1, argv + std::min(argc, 3), is_help)) {
    std::cout << kUsage;
    return 0;
  }
  end_with_launcher();
  const std::map<std::string, std::function<int(const Arguments&)>> commands{
      {"train", run_train},   {"evaluate", run_evaluate}, {"generate", run_generate},
      {"export", run_export}, {"profile", run_profile},   {"doctor", run_doctor}};
  const auto command = argc < 2 ? commands.end() : commands.find(argv[1]);
  GIMBAL_USER_CHECK(command != commands.end(), "gimbal-run has no command '",
                    argc < 2 ? "" : argv[1], "'. gimbal calls it: see `gimbal --help`.");
  return command->second(Arguments(argv + 2, argv + argc));
}

}  // namespace
}  // namespace gimbal::cli

int main(int argc, char** argv) {
  try {
    return gimbal::cli::run(argc, argv);
  } catch (const CLI::Success&) {
    return 0;
  } catch (const CLI::ParseError& error) {
    gimbal::report_error(error.what());
    return 2;
  } catch (const gimbal::UserError& error) {
    gimbal::report_error(error.what());
    return 2;
  } catch (const std::exception& error) {
    gimbal::report_error(error.what());
    return 1;
  }
}
