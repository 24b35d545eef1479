#include "gimbal/parallel/launch_variables.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <string_view>

#include "gimbal/base/error.h"
#include "gimbal/base/rng.h"

namespace gimbal {
namespace {

/// The whole text as a number; nullopt for anything else.
std::optional<int> whole_number(std::string_view text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace

std::optional<std::string> LaunchVariables::text(const std::string& name) const {
  auto value = get_(name);
  if (value && value->empty()) return std::nullopt;
  return value;
}

std::optional<int> LaunchVariables::number(const std::string& name) const {
  const auto value = text(name);
  if (!value) return std::nullopt;
  const auto result = whole_number(*value);
  GIMBAL_USER_CHECK(result, "launch: ", name, "='", *value, "' is not a whole number");
  return result;
}

std::string LaunchVariables::required_text(const std::string& name,
                                           const std::string& because) const {
  auto value = text(name);
  GIMBAL_USER_CHECK(value, "launch: ", name, " is not set, but ", because,
                    " is; set both (torchrun, srun and mpirun do), or neither for one process");
  return *value;
}

int LaunchVariables::required_number(const std::string& name, const std::string& because) const {
  required_text(name, because);
  return *number(name);
}

int port_of_job(const std::string& job) {
  constexpr int kFirstPort = 15000;
  constexpr std::uint64_t kNumPorts = 15000;
  return kFirstPort + static_cast<int>(hash_name(job) % kNumPorts);
}

std::string first_slurm_host(const std::string& node_list) {
  const std::size_t end = node_list.find_first_of(",[");
  if (end == std::string::npos || node_list[end] == ',') return node_list.substr(0, end);
  const std::size_t number_end = node_list.find_first_of(",-]", end);
  const std::size_t suffix = node_list.find(']', end);
  if (number_end == std::string::npos || suffix == std::string::npos) return "";
  // The rest may hold further brackets ("rack[1-2]node[3-4]") or further hosts.
  return first_slurm_host(node_list.substr(0, end) +
                          node_list.substr(end + 1, number_end - end - 1) +
                          node_list.substr(suffix + 1));
}

std::vector<int> slurm_tasks_per_node(const std::string& text, const std::string& variable) {
  std::vector<int> tasks;
  std::size_t begin = 0;
  while (begin <= text.size()) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    const std::string_view part = std::string_view(text).substr(begin, end - begin);
    const std::size_t times = part.find("(x");
    const auto count = whole_number(part.substr(0, times));
    std::optional<int> repeats = 1;
    if (times != std::string_view::npos) {
      repeats = part.back() == ')' ? whole_number(part.substr(times + 2, part.size() - times - 3))
                                   : std::nullopt;
    }
    GIMBAL_USER_CHECK(count && *count > 0 && repeats && *repeats > 0, "launch: ", variable, "='",
                      text, "' is not of the form 4(x2),3");
    tasks.insert(tasks.end(), static_cast<std::size_t>(*repeats), *count);
    begin = end + 1;
  }
  return tasks;
}

}  // namespace gimbal
