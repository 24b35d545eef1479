// By what an export is known as one of ours: gimbal_export.json in the model folder.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace gimbal {

struct ExportNote {
  std::int64_t step = 0;           // of the checkpoint
  std::vector<std::string> files;  // what the export has written, without the note
};

/// Writes the note into `folder`, with the names of all files that are there. Throws UserError.
void write_export_note(const std::filesystem::path& folder, std::int64_t step);

/// The note of `folder`; nothing when there is none, or a file of that name that is no note.
std::optional<ExportNote> find_export_note(const std::filesystem::path& folder);

/// "'runs/demo/hf': the export of step 40 has replaced the one of step 20".
std::string replaced_export_text(const std::filesystem::path& folder, std::int64_t step,
                                 std::int64_t replaced_step);

/// The note of the export that a new one may replace; nothing when `folder` does not exist or is
/// empty. Throws UserError for everything else: a file, a folder without a note (a model that
/// somebody has downloaded), an export into which files were put.
std::optional<ExportNote> check_export_folder(const std::filesystem::path& folder);

}  // namespace gimbal
