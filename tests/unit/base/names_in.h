// What lies in a folder.
#pragma once

#include <filesystem>
#include <set>
#include <string>

namespace gimbal::testing {

/// The names of the files and folders in `folder`.
inline std::set<std::string> names_in(const std::filesystem::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    names.insert(entry.path().filename().string());
  return names;
}

}  // namespace gimbal::testing
