#include "gimbal/base/byte_text.h"

#include <array>
#include <cstdio>

namespace gimbal {

std::string bytes_text(Bytes bytes) {
  constexpr std::array<const char*, 5> kUnits{"B", "KiB", "MiB", "GiB", "TiB"};
  std::size_t unit = 0;
  for (; bytes >= 1024 && unit + 1 < kUnits.size(); ++unit) bytes /= 1024;
  std::array<char, 64> text{};
  const char* format = unit == 0 ? "%.0f %s" : bytes < 10 ? "%.2f %s" : "%.1f %s";
  std::snprintf(text.data(), text.size(), format, bytes, kUnits[unit]);
  return text.data();
}

}  // namespace gimbal
