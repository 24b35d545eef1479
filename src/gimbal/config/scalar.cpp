#include "gimbal/config/scalar.h"

#include <charconv>
#include <cmath>

namespace gimbal {
namespace {

// from_chars takes no leading plus sign and does not depend on the locale.
template <typename T>
bool parse_number(const std::string& text, T& out) {
  const char* begin = text.data();
  const char* end = begin + text.size();
  if (text.size() > 1 && text[0] == '+' && text[1] != '-') ++begin;
  T value{};
  const auto [stop, error] = std::from_chars(begin, end, value);
  if (error != std::errc() || stop != end) return false;
  out = value;
  return true;
}

}  // namespace

bool parse_scalar(const std::string& text, bool& out) {
  if (text != "true" && text != "false") return false;
  out = text == "true";
  return true;
}

bool parse_scalar(const std::string& text, std::int64_t& out) { return parse_number(text, out); }

bool parse_scalar(const std::string& text, double& out) {
  double value = 0;
  if (!parse_number(text, value) || !std::isfinite(value)) return false;
  out = value;
  return true;
}

bool parse_scalar(const std::string& text, std::string& out) {
  if (find_non_utf8(text)) return false;
  out = text;
  return true;
}

std::optional<std::size_t> find_non_utf8(const std::string& text) {
  std::size_t i = 0;
  while (i < text.size()) {
    const auto byte = [&](std::size_t at) -> unsigned {
      return at < text.size() ? static_cast<unsigned char>(text[at]) : 0U;
    };
    const unsigned first = byte(i);
    const std::size_t length = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    if (first >= 0x80 && (first < 0xc2 || first > 0xf4)) return i;
    for (std::size_t k = 1; k < length; ++k) {
      if ((byte(i + k) & 0xc0U) != 0x80U) return i;
    }
    // Over-long forms, surrogates and values above U+10FFFF show in the second byte.
    const unsigned second = byte(i + 1);
    if ((first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f) ||
        (first == 0xf0 && second < 0x90) || (first == 0xf4 && second > 0x8f)) {
      return i;
    }
    i += length;
  }
  return std::nullopt;
}

}  // namespace gimbal
