// What the commands share: their form, their errors and their list.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

namespace gimbal::cli {

using Arguments = std::vector<std::string>;

/// One command of the program. `run` gets the words after the command's name and returns the exit
/// code; a command that another program carries out does not return.
struct Command {
  const char* name;
  const char* summary;
  std::function<int(const Arguments&)> run;
};

Command prepare_command();
Command inspect_command();
Command balance_command();
Command plan_command();
Command simulate_command();
Command profile_command();
Command train_command();
Command evaluate_command();
Command generate_command();
Command export_command();
Command report_command();
Command doctor_command();

/// Parses the words. Prints help on stdout and throws CLI::Success when it is asked for; throws
/// UserError for bad words.
void parse(CLI::App& app, const Arguments& arguments);

/// For options: takes a whole number from `least` to `most`, and says so of anything else.
CLI::Validator whole_number_from(int least, int most);
/// --nproc: processes on one machine.
CLI::Validator process_count();

/// Throws UserError unless `folder` is a folder that holds `file`. `option` and `made_by` go into
/// the message.
void require_folder(const std::string& option, const std::string& folder, const std::string& file,
                    const std::string& made_by);

}  // namespace gimbal::cli
