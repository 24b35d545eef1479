#include "gimbal/checkpoint/sharded/state_file.h"

#include <algorithm>
#include <array>

#include "gimbal/base/error.h"
#include "gimbal/base/file.h"
#include "gimbal/base/sha256.h"

namespace gimbal {
namespace {

namespace fs = std::filesystem;

constexpr int kNewestVersion = 2;
constexpr char kStateFile[] = "state.json";

// Of everything else in state.json, so that a changed digit in it is found too.
std::string state_sha256(Json json) {
  json.erase("sha256");
  return sha256_of(json.dump());
}

// Any other problem than absence shows when the file is read.
void check_is_there(const fs::path& path) {
  std::error_code error;
  GIMBAL_USER_CHECK(fs::exists(path, error) || error, path.string(),
                    ": is missing, so the checkpoint is incomplete");
}

std::map<std::string, CheckpointFile> files_from_json(const Json& files, const std::string& where) {
  GIMBAL_USER_CHECK(files.is_object(), where, ": key 'files' is no JSON object");
  std::map<std::string, CheckpointFile> out;
  for (const auto& [name, entry] : files.items()) {
    GIMBAL_USER_CHECK(!name.empty() && fs::path(name).filename() == name, where, ": '", name,
                      "' is no plain file name");
    out[name] = {json_get<std::uint64_t>(entry, "bytes", where),
                 json_get<std::string>(entry, "sha256", where)};
  }
  return out;
}

}  // namespace

void write_state_file(const fs::path& folder, const StateFile& file) {
  Json json{{"format", "gimbal-checkpoint"},
            {"version", file.version},
            {"state", to_json(file.state)},
            {"mesh", file.mesh},
            {"files", Json::object()}};
  for (const auto& [name, entry] : file.files)
    json["files"][name] = {{"bytes", entry.bytes}, {"sha256", entry.sha256}};
  json["sha256"] = state_sha256(json);
  const std::string text = json.dump(2) + "\n";
  OutputFile out(folder / kStateFile);
  out.write(text.data(), text.size());
  out.close();
}

StateFile read_state_file(const fs::path& checkpoint) {
  const fs::path path = checkpoint / kStateFile;
  const std::string where = path.string();
  check_is_there(path);
  const Json json = read_json(path);
  GIMBAL_USER_CHECK(json.is_object() && json.value("format", Json()) == "gimbal-checkpoint", where,
                    ": is no state of a checkpoint");
  StateFile out;
  out.version = json_get<int>(json, "version", where);
  GIMBAL_USER_CHECK(out.version >= 1 && out.version <= kNewestVersion, where,
                    ": has format version ", out.version, ", this program reads versions 1 to ",
                    kNewestVersion, ". Use the Gimbal that wrote it.");
  GIMBAL_USER_CHECK(
      json_get<std::string>(json, "sha256", where) == state_sha256(json), where,
      ": its content does not match its checksum; the file was changed or is damaged");
  out.state = training_state_from_json(json_get<Json>(json, "state", where), where);
  if (out.version > 1) out.mesh = json_get<std::string>(json, "mesh", where);
  out.files = files_from_json(json_get<Json>(json, "files", where), where);
  const auto require = [&](const char* name) {
    GIMBAL_USER_CHECK(out.files.count(name) > 0, where, ": key '", name, "' is missing");
  };
  if (out.version > 1) {
    require(kIndexFile);
  } else {
    require(kModelFile);
    require(kOptimizerFile);
  }
  return out;
}

void check_file_size(const fs::path& path, const CheckpointFile& expected) {
  check_is_there(path);
  std::error_code error;
  const std::uintmax_t bytes = fs::file_size(path, error);
  if (error)
    throw FileError(concat(path.string(), ": cannot read its size: ", error.message()),
                    error.value());
  GIMBAL_USER_CHECK(bytes == expected.bytes, path.string(), ": has ", bytes, " bytes instead of ",
                    expected.bytes, "; the file is damaged or incomplete");
}

void check_file(const fs::path& path, const CheckpointFile& expected) {
  check_file_size(path, expected);
  // Not through a mapping: there a failing disk is a signal that ends the process.
  Sha256 hash;
  read_blocks(path, [&](const char* data, std::size_t size) { hash.update(data, size); });
  GIMBAL_USER_CHECK(hash.finish() == expected.sha256, path.string(),
                    ": its content does not match its checksum; the file is damaged");
}

}  // namespace gimbal
