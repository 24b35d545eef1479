// gimbal: finds the command and runs it. Nothing here links libtorch, so help and config errors
// come at once.
#include <exception>
#include <iostream>

#include "apps/cli/command.h"
#include "apps/cli/process.h"
#include "gimbal/base/error.h"
#include "gimbal/base/log.h"
#include "gimbal/config/problems.h"

namespace gimbal::cli {
namespace {

std::vector<Command> all_commands() {
  return {prepare_command(),  inspect_command(),  balance_command(), profile_command(),
          plan_command(),     simulate_command(), train_command(),   evaluate_command(),
          generate_command(), export_command(),   report_command(),  doctor_command()};
}

std::string usage() {
  std::string text =
      "Gimbal trains vision-language models from Hugging Face model folders.\n"
      "\n"
      "Usage: gimbal COMMAND [ARGUMENTS]\n"
      "\n"
      "Commands, in the order of use:\n";
  for (const Command& command : all_commands()) {
    std::string name = command.name;
    name.resize(10, ' ');
    text += "  " + name + command.summary + "\n";
  }
  return text +
         "\n"
         "Examples:\n"
         "  gimbal prepare --model MODEL --data train.jsonl --out data/train\n"
         "  gimbal balance lengths.csv --cap vision=16 --cap tokens=5376 --ranks 8\n"
         "  gimbal plan --model MODEL --lengths lengths.csv --hardware h100-80g --devices 16\n"
         "  gimbal train recipe.yaml optimizer.lr=1e-4 --nproc 2\n"
         "\n"
         "`gimbal COMMAND --help` tells more; `gimbal train --help` lists every option of a "
         "recipe.\n"
         "`gimbal --version` prints the version. Exit code: 0, 1 (failed) or 2 (bad input).\n";
}

int run(const Arguments& words) {
  if (words.empty()) {
    std::cerr << usage();
    return 2;
  }
  const std::string& name = words.front();
  if (name == "--help" || name == "-h" || name == "help") {
    std::cout << usage();
    return 0;
  }
  if (name == "--version") {
    std::cout << "gimbal " GIMBAL_VERSION "\n";
    return 0;
  }
  std::vector<std::string> names;
  for (const Command& command : all_commands()) {
    if (name == command.name) return command.run(Arguments(words.begin() + 1, words.end()));
    names.emplace_back(command.name);
  }
  const std::string meant = nearest(name, names);
  throw UserError(
      concat("unknown command '", name, "'",
             meant.empty() ? "; see `gimbal --help`" : "; did you mean " + meant + "?"));
}

}  // namespace
}  // namespace gimbal::cli

int main(int argc, char** argv) {
  gimbal::cli::set_program_name(argc > 0 ? argv[0] : nullptr);
  try {
    return gimbal::cli::run(gimbal::cli::Arguments(argv + (argc > 0 ? 1 : 0), argv + argc));
  } catch (const CLI::Success&) {
    return 0;
  } catch (const gimbal::UserError& error) {
    gimbal::log_error(error.what());
    return 2;
  } catch (const std::exception& error) {
    gimbal::log_error(error.what());
    return 1;
  }
}
