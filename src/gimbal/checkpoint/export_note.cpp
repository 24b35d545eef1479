#include "gimbal/checkpoint/export_note.h"

#include <algorithm>

#include "gimbal/base/error.h"
#include "gimbal/base/file.h"
#include "gimbal/base/json.h"

namespace gimbal {
namespace {

namespace fs = std::filesystem;

constexpr const char* kExportNoteFile = "gimbal_export.json";
constexpr const char* kExportNoteFormat = "gimbal-export";

std::vector<std::string> names_in_export(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    std::string name = entry.path().filename().string();
    if (name != kExportNoteFile) names.push_back(std::move(name));
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

void write_export_note(const fs::path& folder, std::int64_t step) {
  const OrderedJson note{{"format", kExportNoteFormat},
                         {"version", 1},
                         {"step", step},
                         {"files", names_in_export(folder)}};
  const std::string text = note.dump(2) + "\n";
  OutputFile file(folder / kExportNoteFile);
  file.write(text.data(), text.size());
  file.close();
}

std::optional<ExportNote> find_export_note(const fs::path& folder) {
  const fs::path path = folder / kExportNoteFile;
  if (!fs::is_regular_file(path)) return std::nullopt;
  const std::string where = path.string();
  try {
    const Json json = read_json(path);
    if (json_get<std::string>(json, "format", where) != kExportNoteFormat) return std::nullopt;
    return ExportNote{json_get<std::int64_t>(json, "step", where),
                      json_get<std::vector<std::string>>(json, "files", where)};
  } catch (const UserError&) {
    return std::nullopt;  // somebody else's file
  }
}

std::string replaced_export_text(const fs::path& folder, std::int64_t step,
                                 std::int64_t replaced_step) {
  return concat("'", folder.string(), "': the export of step ", step,
                " has replaced the one of step ", replaced_step);
}

std::optional<ExportNote> check_export_folder(const fs::path& folder) {
  if (!fs::exists(folder)) return std::nullopt;
  const bool is_folder = fs::is_directory(folder);
  if (is_folder && fs::is_empty(folder)) return std::nullopt;
  const auto note = is_folder ? find_export_note(folder) : std::nullopt;
  GIMBAL_USER_CHECK(note, "--out '", folder.string(), "' exists and is no export of gimbal (",
                    kExportNoteFile, "); it is left alone. Choose a new folder.");
  for (const std::string& name : names_in_export(folder)) {
    GIMBAL_USER_CHECK(std::ranges::find(note->files, name) != note->files.end(), "--out '",
                      folder.string(), "': the export of step ", note->step, " has not written '",
                      name,
                      "', which would be lost; the folder is left alone. Move the file away, "
                      "or choose a new folder.");
  }
  return note;
}

}  // namespace gimbal
