#include "gimbal/base/byte_text.h"

#include <array>
#include <cstdio>

namespace gimbal {

std::string bytes_text(Bytes bytes) {
  constexpr std::array<const char*, 5> kUnits{"B", "KiB", "MiB", "GiB", "TiB"};
  std::size_t unit = 0;
  // By what is printed: 1023.97 MiB would be 1024.0 MiB, and 9.996 would be 10.00.
  for (; unit + 1 < kUnits.size() && bytes >= (unit == 0 ? 1023.5 : 1023.95); ++unit) bytes /= 1024;
  std::array<char, 64> text{};
  const char* format = unit == 0 ? "%.0f %s" : bytes < 9.995 ? "%.2f %s" : "%.1f %s";
  std::snprintf(text.data(), text.size(), format, bytes, kUnits[unit]);
  return text.data();
}

}  // namespace gimbal
