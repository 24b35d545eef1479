#include "apps/cli/output_file.h"

#include <unistd.h>

#include <filesystem>
#include <string>

namespace gimbal::cli {
namespace {

// What is wrong with the name; empty: nothing.
std::string output_problem(const std::string& name, StdoutName stdout_name) {
  namespace fs = std::filesystem;
  if (name.empty()) return "the name is empty; give the name of a file";
  if (name == "-") {
    return stdout_name == StdoutName::kYes ? "" : "'-' is no file here; give the name of a file";
  }
  std::error_code ignored;
  if (fs::is_directory(name, ignored)) {
    return name + " is a folder; give the name of a file in it";
  }
  if (fs::exists(name, ignored) && !fs::is_regular_file(name, ignored)) {
    return name + " is no plain file; give the name of another";
  }
  const fs::path parent = fs::path(name).parent_path();
  const fs::path folder = parent.empty() ? fs::path(".") : parent;
  if (!fs::is_directory(folder, ignored)) {
    return name + ": there is no folder " + folder.string() + "; make it first";
  }
  if (::access(folder.c_str(), W_OK | X_OK) != 0) {
    return name + ": the folder " + folder.string() +
           " cannot be written; choose another, or change its permissions";
  }
  return "";
}

}  // namespace

CLI::Validator output_file(StdoutName stdout_name) {
  return CLI::Validator(
      [stdout_name](const std::string& name) { return output_problem(name, stdout_name); }, "");
}

}  // namespace gimbal::cli
