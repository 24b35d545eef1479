#include "gimbal/checkpoint/export_note.h"

#include <algorithm>
#include <system_error>
#include <utility>

#include "gimbal/base/error.h"
#include "gimbal/base/file.h"
#include "gimbal/base/json.h"

namespace gimbal {
namespace {

namespace fs = std::filesystem;

constexpr const char* kExportNoteFile = "gimbal_export.json";
constexpr const char* kExportNoteFormat = "gimbal-export";
constexpr std::int64_t kExportNoteVersion = 1;

std::vector<std::string> names_in_export(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    std::string name = entry.path().filename().string();
    if (name != kExportNoteFile) names.push_back(std::move(name));
  }
  std::sort(names.begin(), names.end());
  return names;
}

/// The note of an export.
struct NoteFile {
  std::int64_t version = 0;
  ExportNote note;  // of kExportNoteVersion alone
};

/// Nothing when there is none, or a file of that name that is no note.
std::optional<NoteFile> read_export_note(const fs::path& folder) {
  const fs::path path = folder / kExportNoteFile;
  if (!fs::is_regular_file(path)) return std::nullopt;
  const std::string where = path.string();
  try {
    const Json json = read_json(path);
    if (json_get<std::string>(json, "format", where) != kExportNoteFormat) return std::nullopt;
    NoteFile file{json_get<std::int64_t>(json, "version", where), {}};
    if (file.version == kExportNoteVersion) {
      file.note.step = json_get<std::int64_t>(json, "step", where);
      file.note.files = json_get<std::vector<std::string>>(json, "files", where);
    }
    return file;
  } catch (const UserError&) {
    return std::nullopt;  // somebody else's file
  }
}

ExportTarget look_at_export_folder(const fs::path& folder) {
  ExportTarget target{folder, std::nullopt, ""};
  if (!fs::exists(folder)) return target;
  const std::string name = "'" + folder.string() + "'";
  std::error_code error;
  const bool is_folder = fs::is_directory(folder, error);
  if (is_folder && fs::is_empty(folder, error)) return target;
  if (error) {
    target.obstacle = concat(name, " cannot be listed (", error.message(), ")");
    return target;
  }
  const auto file = is_folder ? read_export_note(folder) : std::nullopt;
  if (!file) {
    target.obstacle = concat(name, " exists and is no export of gimbal (", kExportNoteFile, ")");
    return target;
  }
  if (file->version != kExportNoteVersion) {
    target.obstacle = concat(name, ": ", kExportNoteFile, " is of version ", file->version,
                             ", and this gimbal knows version ", kExportNoteVersion, " only");
    return target;
  }
  for (const std::string& inside : names_in_export(folder)) {
    if (std::ranges::find(file->note.files, inside) != file->note.files.end()) continue;
    target.obstacle = concat(name, ": the export of step ", file->note.step, " has not written '",
                             inside, "', which would be lost");
    return target;
  }
  target.earlier = file->note;
  return target;
}

}  // namespace

void write_export_note(const fs::path& folder, std::int64_t step) {
  const OrderedJson note{{"format", kExportNoteFormat},
                         {"version", kExportNoteVersion},
                         {"step", step},
                         {"files", names_in_export(folder)}};
  const std::string text = note.dump(2) + "\n";
  OutputFile file(folder / kExportNoteFile);
  file.write(text.data(), text.size());
  file.close();
}

std::string replaced_export_text(const fs::path& folder, std::int64_t step,
                                 std::int64_t replaced_step) {
  return concat("'", folder.string(), "': the export of step ", step,
                " has replaced the one of step ", replaced_step);
}

std::optional<ExportNote> check_export_folder(const fs::path& folder) {
  const ExportTarget target = look_at_export_folder(folder);
  GIMBAL_USER_CHECK(target.obstacle.empty(), "--out ", target.obstacle,
                    "; it is left alone. Choose a new folder, or move away what is there.");
  return target.earlier;
}

ExportTarget choose_export_folder(const fs::path& folder, std::int64_t step) {
  ExportTarget target = look_at_export_folder(folder);
  const std::string obstacle = target.obstacle;
  for (int number = 0; !target.obstacle.empty(); ++number) {
    const std::string ending = number == 0 ? "" : concat(".", number);
    target = look_at_export_folder(concat(folder.string(), ".step-", step, ending));
  }
  target.obstacle = obstacle;
  return target;
}

}  // namespace gimbal
