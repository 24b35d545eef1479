#include <algorithm>
#include <cctype>
#include <chrono>
#include <thread>
#include <torch/csrc/distributed/c10d/Store.hpp>
#include <vector>

#include "gimbal/base/error.h"
#include "gimbal/base/rng.h"
#include "gimbal/parallel/comm/comm_c10d.h"
#include "gimbal/parallel/first_report.h"

namespace gimbal {
namespace {

constexpr std::chrono::milliseconds kForRankZero{500};
constexpr std::chrono::milliseconds kForTheAgent{2000};

/// The error without "rank 3: " in front.
std::string without_rank(const std::string& error) {
  const std::string word = "rank ";
  const std::size_t colon = error.find(": ");
  if (!error.starts_with(word) || colon == std::string::npos || colon == word.size()) return error;
  const bool is_number = std::all_of(error.begin() + static_cast<std::ptrdiff_t>(word.size()),
                                     error.begin() + static_cast<std::ptrdiff_t>(colon),
                                     [](unsigned char c) { return std::isdigit(c) != 0; });
  return is_number ? error.substr(colon + 2) : error;
}

}  // namespace

bool is_first_to_report(const LaunchInfo& launch, const std::string& error) noexcept {
  if (launch.world_size == 1 || !launch.agent_store) return true;
  try {
    // What all ranks meet should not look like the mistake of one.
    if (launch.rank != 0) std::this_thread::sleep_for(kForRankZero);
    const std::string own = std::to_string(launch.rank);
    const auto store = connect_to_store(launch, kForTheAgent);
    const auto first = store->compareSet(concat("errors/", hash_name(without_rank(error))), {},
                                         std::vector<std::uint8_t>(own.begin(), own.end()));
    return std::string(first.begin(), first.end()) == own;
  } catch (const std::exception&) {
    return true;  // twice is better than not at all
  }
}

}  // namespace gimbal
