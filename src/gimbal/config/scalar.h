// Text to a value and the words for what a type expects. Strict: the whole text must be the value.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <type_traits>

#include "gimbal/config/enums.h"

namespace gimbal {

bool parse_scalar(const std::string& text, bool& out);
bool parse_scalar(const std::string& text, std::int64_t& out);
/// Finite numbers only.
bool parse_scalar(const std::string& text, double& out);
/// UTF-8 only, since JSON and Python take nothing else.
bool parse_scalar(const std::string& text, std::string& out);

template <typename E>
requires std::is_enum_v<E>
bool parse_scalar(const std::string& text, E& out) {
  const auto value = enum_value<E>(text);
  if (value) out = *value;
  return value.has_value();
}

/// Where the first byte is that is not UTF-8; nothing when all are.
std::optional<std::size_t> find_non_utf8(const std::string& text);

/// True for bool, numbers, text and enums.
template <typename T>
inline constexpr bool kIsScalar =
    std::is_arithmetic_v<T> || std::is_enum_v<T> || std::is_same_v<T, std::string>;

/// "a whole number", "one of keep, full", ...
template <typename T>
std::string expected_words() {
  if constexpr (std::is_same_v<T, bool>) return "true or false";
  if constexpr (std::is_same_v<T, std::int64_t>) return "a whole number";
  if constexpr (std::is_same_v<T, double>) return "a number";
  if constexpr (std::is_same_v<T, std::string>) return "text in UTF-8";
  if constexpr (std::is_enum_v<T>) return "one of " + enum_choices<T>(", ");
}

}  // namespace gimbal
