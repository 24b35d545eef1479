// JSON files with errors that name the file and the key. nlohmann/json does the parsing.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "gimbal/base/error.h"

namespace gimbal {

using Json = nlohmann::json;
/// Keeps keys in the order in which they were added: for files that people read.
using OrderedJson = nlohmann::ordered_json;

/// Throws UserError with the file, and the place of a syntax error.
Json read_json(const std::filesystem::path& path);

/// The value of `key` in `object`, converted to T. Throws UserError naming `where` (a file), the
/// key and the expected type.
template <typename T>
T json_get(const Json& object, const std::string& key, const std::string& where) {
  const auto it = object.find(key);
  GIMBAL_USER_CHECK(it != object.end(), where, ": key '", key, "' is missing");
  try {
    return it->template get<T>();
  } catch (const nlohmann::json::exception& e) {
    throw UserError(concat(where, ": key '", key, "' has a wrong type: ", e.what()));
  }
}

/// As json_get, but `fallback` when the key is absent or null.
template <typename T>
T json_get_or(const Json& object, const std::string& key, const T& fallback,
              const std::string& where) {
  const auto it = object.find(key);
  if (it == object.end() || it->is_null()) return fallback;
  return json_get<T>(object, key, where);
}

}  // namespace gimbal
