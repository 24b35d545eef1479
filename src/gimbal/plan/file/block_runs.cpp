#include "gimbal/plan/file/block_runs.h"

#include <charconv>
#include <cstdint>
#include <optional>
#include <set>

#include "gimbal/base/error.h"

namespace gimbal {
namespace {

constexpr const char* kTo = " .. ";
constexpr std::uint64_t kMostBlocks = 1'000'000;

struct NumberedName {
  std::string prefix;  // with the dot
  std::uint64_t number = 0;
};

// "vision.12" as "vision." and 12. A number is written in one way only, so that names come back.
std::optional<NumberedName> numbered(const std::string& name) {
  const std::size_t dot = name.rfind('.');
  if (dot == std::string::npos || dot + 1 == name.size()) return std::nullopt;
  NumberedName result{name.substr(0, dot + 1), 0};
  const char* end = name.data() + name.size();
  const auto parsed = std::from_chars(name.data() + dot + 1, end, result.number);
  if (parsed.ec != std::errc() || parsed.ptr != end || result.number > kMostBlocks ||
      result.prefix + std::to_string(result.number) != name) {
    return std::nullopt;
  }
  return result;
}

}  // namespace

std::vector<std::string> block_runs(const std::vector<std::string>& names) {
  std::vector<std::string> runs;
  for (std::size_t i = 0; i < names.size();) {
    GIMBAL_CHECK(names[i].find(kTo) == std::string::npos, "block name ", names[i]);
    const auto first = numbered(names[i]);
    std::size_t next = i + 1;
    while (first && next < names.size() &&
           names[next] == first->prefix + std::to_string(first->number + (next - i))) {
      ++next;
    }
    runs.push_back(next > i + 1 ? names[i] + kTo + names[next - 1] : names[i]);
    i = next;
  }
  return runs;
}

std::vector<std::string> block_names(const std::vector<std::string>& runs,
                                     const std::string& where) {
  std::vector<std::string> names;
  std::set<std::string> seen;
  const auto add = [&](std::string name) {
    GIMBAL_USER_CHECK(seen.insert(name).second, where, ": block ", name, " occurs twice");
    names.push_back(std::move(name));
  };
  for (const std::string& run : runs) {
    const std::size_t to = run.find(kTo);
    if (to == std::string::npos) {
      add(run);
      continue;
    }
    const auto first = numbered(run.substr(0, to)), last = numbered(run.substr(to + 4));
    GIMBAL_USER_CHECK(
        first && last && first->prefix == last->prefix && first->number < last->number, where,
        ": found '", run, "', expected a block or a run of them like vision.0 .. vision.23");
    for (std::uint64_t number = first->number; number <= last->number; ++number) {
      add(first->prefix + std::to_string(number));
    }
  }
  GIMBAL_USER_CHECK(!names.empty(), where, ": names no block");
  return names;
}

}  // namespace gimbal
