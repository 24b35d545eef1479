// Cuts a log of the run where the run goes on.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

namespace gimbal {

/// Drops the lines of steps after `step` from a file of JSON objects, a line each with "step", and
/// lines that a crash cut short. Lines without a step stay. Returns the last step that a line is
/// left of, as far as the file was read; nothing when there is none.
///
/// Reads from the end to the last line of a step up to `step`, whatever the file's size: what is
/// before it has been cut by earlier starts. Where the steps read are not in order it goes over
/// the whole file. Throws UserError when the file cannot be read or written.
std::optional<std::int64_t> cut_log(const std::filesystem::path& path, std::int64_t step);

}  // namespace gimbal
