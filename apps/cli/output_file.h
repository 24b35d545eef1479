// Files that commands write: looked at before the work, not after it.
#pragma once

#include <CLI/CLI.hpp>

namespace gimbal::cli {

/// Whether the option may name stdout by "-".
enum class StdoutName { kNo, kYes };

/// A check for options that name an output file; a bad name ends the parsing: an empty one, a
/// folder, a device, a file in a folder that does not exist or may not be written.
CLI::Validator output_file(StdoutName stdout_name);

}  // namespace gimbal::cli
