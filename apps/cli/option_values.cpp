#include "apps/cli/option_values.h"

#include <charconv>
#include <cmath>
#include <optional>
#include <string_view>

#include "gimbal/base/error.h"

namespace gimbal::cli {
namespace {

/// A finite number and nothing else; nothing for another text.
std::optional<double> read_finite(std::string_view text) {
  double value = 0;
  const char* end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, value);
  if (parsed.ec != std::errc() || parsed.ptr != end || !std::isfinite(value)) return std::nullopt;
  return value;
}

}  // namespace

std::uint64_t whole_number(const std::string& option, const std::string& text, std::uint64_t least,
                           std::uint64_t most) {
  std::uint64_t value = 0;
  const char* end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, value);
  GIMBAL_USER_CHECK(
      parsed.ec == std::errc() && parsed.ptr == end && value >= least && value <= most, option,
      ": found '", text, "', expected a whole number from ", least, " to ", most);
  return value;
}

double real_number(const std::string& option, const std::string& text) {
  const std::optional<double> value = read_finite(text);
  GIMBAL_USER_CHECK(value && *value >= 0, option, ": found '", text,
                    "', expected a number of at least 0");
  return *value;
}

double positive_number(const std::string& option, const std::string& text) {
  const double value = real_number(option, text);
  GIMBAL_USER_CHECK(value > 0, option, ": found '", text, "', expected a number above 0");
  return value;
}

double byte_count(const std::string& option, const std::string& text) {
  constexpr std::string_view kUnits = "KMGT";
  std::string_view number = text;
  double unit = 1;
  if (const std::size_t at = number.find_last_of(kUnits); at != std::string_view::npos) {
    const std::string_view behind = number.substr(at + 1);
    if (behind.empty() || behind == "B" || behind == "iB") {
      unit = std::pow(1024.0, static_cast<double>(kUnits.find(number[at]) + 1));
      number = number.substr(0, at);
    }
  }
  const std::optional<double> value = read_finite(number);
  GIMBAL_USER_CHECK(
      value && *value > 0, option, ": found '", text,
      "', expected a number above 0, alone or with K, M, G or T, such as 512M, 512MB or 512MiB "
      "(all in powers of 1024)");
  return *value * unit;
}

std::pair<std::string, std::string> split_name(const std::string& option, const std::string& text,
                                               const std::string& form) {
  const std::size_t at = text.rfind('=');
  GIMBAL_USER_CHECK(at != std::string::npos && at > 0 && at + 1 < text.size(), option, ": found '",
                    text, "', expected ", form);
  return {text.substr(0, at), text.substr(at + 1)};
}

}  // namespace gimbal::cli
