#include <algorithm>
#include <cstdio>
#include <map>

#include "gimbal/config/enums.h"
#include "gimbal/config/load.h"
#include "gimbal/config/scalar.h"
#include "gimbal/config/visit.h"

namespace gimbal {
namespace {

template <typename T>
std::string type_word(const T&) {
  if constexpr (std::is_enum_v<T>) return enum_choices<T>("|");
  if constexpr (std::is_same_v<T, bool>) return "true|false";
  if constexpr (std::is_same_v<T, std::int64_t>) return "integer";
  if constexpr (std::is_same_v<T, double>) return "number";
  if constexpr (std::is_same_v<T, std::string>) return "text";
  if constexpr (std::is_same_v<T, std::vector<std::string>>) return "list of texts";
  if constexpr (std::is_same_v<T, std::map<std::string, double>>) return "map to numbers";
}

template <typename T>
std::string default_word(const T& value) {
  if constexpr (std::is_same_v<T, bool>) return value ? "true" : "false";
  if constexpr (std::is_same_v<T, std::int64_t>) return std::to_string(value);
  if constexpr (std::is_same_v<T, double>) {
    char text[32];
    std::snprintf(text, sizeof(text), "%g", value);
    return text;
  }
  if constexpr (std::is_same_v<T, std::string>) return value.empty() ? "-" : value;
  if constexpr (std::is_enum_v<T>) return enum_name(value);
  return "-";
}

std::string padded(std::string text, std::size_t width) {
  text.resize(std::max(width, text.size()), ' ');
  return text + "  ";
}

template <typename S>
void describe(const S& self, const std::string& prefix, std::string& out) {
  visit(self, [&]<typename T>(const char* name, const T& field, const char* help) {
    const std::string key = prefix + name;
    if constexpr (Visited<T>) {
      out += std::string("\n") + help + ":\n";
      describe(field, key + ".", out);
    } else if constexpr (requires { requires Visited<typename T::value_type>; }) {
      out += "  " + padded(key, 32) + padded("list", 24) + padded("-", 10) + help + "\n";
      describe(typename T::value_type{}, key + "[].", out);
    } else {
      out += "  " + padded(key, 32) + padded(type_word(field), 24) +
             padded(default_word(field), 10) + help + "\n";
    }
  });
}

}  // namespace

std::string describe_options() {
  std::string out;
  describe(Recipe{}, "", out);
  return out;
}

}  // namespace gimbal
