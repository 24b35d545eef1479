// gimbal-run: the half of the command line that computes.
#include <sys/prctl.h>
#include <sys/types.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>
#include <string>

#include "apps/cli/run/command.h"
#include "gimbal/base/error.h"
#include "gimbal/base/log.h"
#include "gimbal/train/stop/report_error.h"

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

bool has_ended(pid_t process) {
  if (process <= 0 || (::kill(process, 0) != 0 && errno == ESRCH)) return true;
  // While its parent has not asked for its exit code, it keeps the number: "12 (name) Z ...".
  std::ifstream file(concat("/proc/", process, "/stat"));
  std::string line;
  std::getline(file, line);
  const std::size_t state = line.rfind(") ");
  return state != std::string::npos && line.compare(state, 3, ") Z") == 0;
}

/// With --nproc, this process ends with its launcher, however that ends; behind a program that
/// started it in between (time, a script) it leaves that to the launcher. False when the launcher
/// has ended already.
bool bind_to_launcher() {
  const char* number = std::getenv("GIMBAL_LAUNCHER");
  if (number == nullptr) return true;
  const auto launcher = static_cast<pid_t>(std::atol(number));
  // What this process starts has another parent.
  ::unsetenv("GIMBAL_LAUNCHER");
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() == launcher) return true;
  // The launcher may have ended before that.
  if (has_ended(launcher)) {
    log_error(concat("the launcher (GIMBAL_LAUNCHER, process ", launcher,
                     ") has ended, and this process with it"));
    return false;
  }
  ::prctl(PR_SET_PDEATHSIG, 0);
  return true;
}

int run(int argc, char** argv) {
  if (argc > 1 && std::any_of(argv + 1, argv + std::min(argc, 3), is_help)) {
    std::cout << kUsage;
    return 0;
  }
  if (!bind_to_launcher()) return 1;
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
