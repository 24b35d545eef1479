#include "gimbal/schedule/in_flight.h"

#include <algorithm>
#include <functional>

namespace gimbal {

std::vector<int> most_in_flight(const Schedule& schedule) {
  std::vector<int> most(static_cast<std::size_t>(schedule.num_stages));
  std::vector<int> held(most.size());
  for (const std::vector<Action>& actions : schedule.ranks) {
    for (const Action& action : actions) {
      const auto stage = static_cast<std::size_t>(action.stage);
      if (action.kind == ActionKind::kForward) {
        most[stage] = std::max(most[stage], ++held[stage]);
      } else if (action.kind != ActionKind::kBackwardInput) {
        --held[stage];  // weight gradients need the activations to the end
      }
    }
  }
  return most;
}

std::vector<std::vector<int>> fullest_moments(const Schedule& schedule, int rank) {
  std::vector<int> held(static_cast<std::size_t>(schedule.num_stages / schedule.num_ranks));
  std::vector<std::vector<int>> moments;
  for (const Action& action : schedule.ranks[static_cast<std::size_t>(rank)]) {
    int& count = held[static_cast<std::size_t>(action.stage / schedule.num_ranks)];
    if (action.kind == ActionKind::kForward) {
      ++count;
      moments.push_back(held);
    } else if (action.kind != ActionKind::kBackwardInput) {
      --count;
    }
  }
  const auto within = [](const std::vector<int>& a, const std::vector<int>& b) {
    return std::ranges::equal(a, b, std::less_equal<>());
  };
  std::vector<std::vector<int>> fullest;
  for (const std::vector<int>& moment : moments) {
    if (std::ranges::any_of(fullest, [&](const auto& other) { return within(moment, other); }))
      continue;
    std::erase_if(fullest, [&](const auto& other) { return within(other, moment); });
    fullest.push_back(moment);
  }
  return fullest;
}

}  // namespace gimbal
