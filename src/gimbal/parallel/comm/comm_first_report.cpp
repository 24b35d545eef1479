#include <algorithm>
#include <cctype>
#include <chrono>
#include <exception>
#include <future>
#include <memory>
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

/// The first rank, as text, that asks with this key. Waits for an answer without end.
std::string first_to_ask(const LaunchInfo& launch, const std::string& key,
                         std::chrono::milliseconds patience) {
  const std::string own = std::to_string(launch.rank);
  const auto store = connect_to_store(launch, patience);
  const auto first = store->compareSet(key, {}, std::vector<std::uint8_t>(own.begin(), own.end()));
  return {first.begin(), first.end()};
}

}  // namespace

bool is_first_to_report(const LaunchInfo& launch, const std::string& error,
                        std::chrono::milliseconds patience) noexcept {
  if (launch.world_size == 1 || !launch.agent_store) return true;
  try {
    // What all ranks meet should not look like the mistake of one.
    if (launch.rank != 0) std::this_thread::sleep_for(kForRankZero);
    const std::string key = concat("errors/", hash_name(without_rank(error)));
    // A call to an agent that is halted returns when that goes on.
    const auto answer = std::make_shared<std::promise<std::string>>();
    std::future<std::string> first = answer->get_future();
    std::thread([answer, launch, key, patience] {
      try {
        answer->set_value(first_to_ask(launch, key, patience));
      } catch (...) {
        answer->set_exception(std::current_exception());
      }
    }).detach();
    if (first.wait_for(patience) != std::future_status::ready) return true;
    return first.get() == std::to_string(launch.rank);
  } catch (const std::exception&) {
    return true;  // twice is better than not at all
  }
}

}  // namespace gimbal
