#include "apps/cli/command.h"

#include <charconv>
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

CLI::Validator whole_number_from(int least, int most) {
  return CLI::Validator(
      [least, most](const std::string& text) {
        int value = 0;
        const char* end = text.data() + text.size();
        const auto parsed = std::from_chars(text.data(), end, value);
        if (parsed.ec == std::errc() && parsed.ptr == end && value >= least && value <= most)
          return std::string();
        return concat("found '", text, "', expected a whole number from ", least, " to ", most);
      },
      "");
}

CLI::Validator process_count() { return whole_number_from(1, 1024); }

void require_folder(const std::string& option, const std::string& folder, const std::string& file,
                    const std::string& made_by) {
  namespace fs = std::filesystem;
  GIMBAL_USER_CHECK(fs::is_directory(folder), option, ": '", folder, "' is no folder");
  GIMBAL_USER_CHECK(fs::exists(fs::path(folder) / file), option, ": '", folder, "' holds no ", file,
                    "; it must be ", made_by);
}

}  // namespace gimbal::cli
