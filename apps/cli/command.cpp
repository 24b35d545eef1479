#include "apps/cli/command.h"

#include <filesystem>
#include <iostream>

#include "gimbal/base/error.h"

namespace gimbal::cli {

void parse(CLI::App& app, const Arguments& arguments) {
  try {
    app.parse(Arguments(arguments.rbegin(), arguments.rend()));  // CLI11 takes them last first
  } catch (const CLI::CallForHelp&) {
    std::cout << app.help();
    throw CLI::Success();
  } catch (const CLI::Success&) {
    throw;
  } catch (const CLI::ParseError& error) {
    throw UserError(concat(error.what(), "\nSee `", app.get_name(), " --help`."));
  }
}

void require_folder(const std::string& option, const std::string& folder, const std::string& file,
                    const std::string& made_by) {
  namespace fs = std::filesystem;
  GIMBAL_USER_CHECK(fs::is_directory(folder), option, ": '", folder, "' is no folder");
  GIMBAL_USER_CHECK(fs::exists(fs::path(folder) / file), option, ": '", folder, "' holds no ", file,
                    "; it must be ", made_by);
}

}  // namespace gimbal::cli
