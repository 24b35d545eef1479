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

/// "'runs/demo/hf': the export of step 40 has replaced the one of step 20".
std::string replaced_export_text(const std::filesystem::path& folder, std::int64_t step,
                                 std::int64_t replaced_step);

/// The note of the export that a new one may replace; nothing when `folder` does not exist or is
/// empty. Throws UserError for everything else: a file, a folder without a note (a model that
/// somebody has downloaded), a note of another version, an export into which files were put.
std::optional<ExportNote> check_export_folder(const std::filesystem::path& folder);

/// Where a run exports to.
struct ExportTarget {
  std::filesystem::path folder;
  std::optional<ExportNote> earlier;  // of the export in `folder`, which a new one may replace
  std::string obstacle;  // "'runs/demo/hf' exists and is no export ..": why it is another folder
};

/// `folder` when check_export_folder() allows it (no obstacle then), else the first that it allows
/// of FOLDER.step-40, FOLDER.step-40.1, FOLDER.step-40.2 .. for `step` 40.
ExportTarget choose_export_folder(const std::filesystem::path& folder, std::int64_t step);

}  // namespace gimbal
