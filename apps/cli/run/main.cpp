// gimbal-run: the half of the command line that computes.
#include <CLI/CLI.hpp>
#include <exception>
#include <functional>
#include <iostream>
#include <map>

#include "apps/cli/run/command.h"
#include "gimbal/base/error.h"
#include "gimbal/base/log.h"

namespace gimbal::cli {
namespace {

int run(int argc, char** argv) {
  const std::map<std::string, std::function<int(const Arguments&)>> commands{
      {"train", run_train},   {"evaluate", run_evaluate}, {"generate", run_generate},
      {"export", run_export}, {"profile", run_profile},   {"doctor", run_doctor}};
  const auto command = argc < 2 ? commands.end() : commands.find(argv[1]);
  GIMBAL_USER_CHECK(command != commands.end(),
                    "gimbal-run is called by gimbal. See `gimbal --help`.");
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
    gimbal::log_error(error.what());
    return 2;
  } catch (const gimbal::UserError& error) {
    gimbal::log_error(error.what());
    return 2;
  } catch (const std::exception& error) {
    gimbal::log_error(error.what());
    return 1;
  }
}
