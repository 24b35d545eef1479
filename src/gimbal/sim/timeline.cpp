#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <vector>

#include "gimbal/base/error.h"
#include "gimbal/sim/trace.h"

namespace gimbal {
namespace {

char timeline_letter(const Action& action) {
  const int digit = action.micro_batch % 10;
  if (action.kind == ActionKind::kForward) return static_cast<char>('0' + digit);
  return static_cast<char>((action.kind == ActionKind::kBackwardWeight ? 'A' : 'a') + digit);
}

/// What takes most of each character's time; '.' where that is waiting.
std::string timeline_row(const std::vector<ActionTimes>& actions, Seconds total, int width) {
  struct Cell {
    double busy = 0;
    double longest = 0;
    char letter = '.';
  };
  std::vector<Cell> cells(static_cast<std::size_t>(width));
  const double per_second = total > 0 ? width / total : 0;
  for (const ActionTimes& times : actions) {
    const double begin = times.start * per_second;
    const double end = times.end * per_second;
    for (int i = static_cast<int>(begin); i < width && i < end; ++i) {
      Cell& cell = cells[static_cast<std::size_t>(i)];
      const double share = std::min<double>(end, i + 1) - std::max<double>(begin, i);
      cell.busy += share;
      // What comes first stays when both are equally long, whatever the last bits say.
      if (share > cell.longest + 1e-9) {
        cell.longest = share;
        cell.letter = timeline_letter(times.action);
      }
    }
  }
  std::string row;
  for (const Cell& cell : cells) row += cell.busy >= 0.5 - 1e-9 ? cell.letter : '.';
  return row;
}

std::string timeline_seconds(Seconds seconds) {
  constexpr std::array<std::pair<double, const char*>, 4> kUnits = {
      {{1, "s"}, {1e-3, "ms"}, {1e-6, "us"}, {1e-9, "ns"}}};
  auto unit = kUnits.begin();
  while (unit + 1 != kUnits.end() && seconds < unit->first) ++unit;
  std::array<char, 40> text;
  std::snprintf(text.data(), text.size(), "%.4g %s", seconds / unit->first, unit->second);
  return text.data();
}

}  // namespace

std::string ascii_timeline(const PipelineResult& result, const Schedule& schedule, int width) {
  GIMBAL_CHECK(width >= 1, "width ", width);
  const bool splits = std::any_of(
      schedule.ranks.begin(), schedule.ranks.end(), [](const std::vector<Action>& actions) {
        return std::any_of(actions.begin(), actions.end(), [](const Action& action) {
          return action.kind == ActionKind::kBackwardWeight;
        });
      });
  const std::size_t digits = std::to_string(result.ranks.size() - 1).size();
  std::string text;
  for (std::size_t rank = 0; rank < result.ranks.size(); ++rank) {
    const std::string number = std::to_string(rank);
    const double share = result.seconds > 0 ? 100 * result.busy[rank] / result.seconds : 0;
    std::array<char, 40> busy;
    std::snprintf(busy.data(), busy.size(), "%5.1f %% busy", share);
    text += "rank " + std::string(digits - number.size(), ' ') + number + " |" +
            timeline_row(result.ranks[rank], result.seconds, width) + "| " + busy.data() + "\n";
  }
  text += "micro-batches by their last digit: 0-9 forward, a-j backward";
  if (splits) text += " (input gradients where split), A-J weight gradients";
  return text + ", . waits; one character is " + timeline_seconds(result.seconds / width) + "\n";
}

}  // namespace gimbal
