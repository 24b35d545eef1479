#include "gimbal/parallel/comm/comm_life_sign.h"

#include <array>
#include <charconv>
#include <cmath>

#include "gimbal/base/error.h"

namespace gimbal {
namespace {

/// In messages about many ranks.
constexpr std::size_t kMostRanksNamed = 8;

/// Sentences of one kind, of which only the first are written out.
class RankSentences {
 public:
  void add(const std::string& sentence) {
    if (++count_ <= kMostRanksNamed) text_ += sentence + ". ";
  }
  std::string text(const std::string& what) const {
    if (count_ <= kMostRanksNamed) return text_;
    return text_ + concat("And ", count_ - kMostRanksNamed, " more ", what, ". ");
  }

 private:
  std::size_t count_ = 0;
  std::string text_;
};

}  // namespace

std::string encode(const LifeSign& sign) {
  return concat(sign.count, "\n", static_cast<int>(sign.state), "\n", sign.place, "\n",
                sign.activity);
}

std::optional<LifeSign> decode_life_sign(const std::string& text) {
  std::array<std::string, 3> lines;
  std::size_t begin = 0;
  for (std::string& line : lines) {
    const std::size_t end = text.find('\n', begin);
    if (end == std::string::npos) return std::nullopt;
    line = text.substr(begin, end - begin);
    begin = end + 1;
  }
  const auto number = [](const std::string& line) -> std::optional<long> {
    long value = 0;
    const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), value);
    if (error != std::errc() || end != line.data() + line.size()) return std::nullopt;
    return value;
  };
  const auto count = number(lines[0]);
  const auto state = number(lines[1]);
  if (!count || !state || *state < 0 || *state > static_cast<long>(LifeState::kEnded))
    return std::nullopt;
  return LifeSign{*count, static_cast<LifeState>(*state), lines[2], text.substr(begin)};
}

RankReport describe_ranks(const std::vector<std::optional<LifeSign>>& before,
                          const std::vector<std::optional<LifeSign>>& after, int own,
                          double seconds) {
  RankSentences dead, ended, alive;
  for (std::size_t rank = 0; rank < after.size(); ++rank) {
    if (static_cast<int>(rank) == own) continue;
    if (!after[rank]) {
      dead.add(concat("Rank ", rank, " has never given a sign of life"));
      continue;
    }
    const LifeSign& sign = *after[rank];
    const std::string who = concat("Rank ", rank, " (", sign.place, ")");
    const bool moves = !before[rank] || before[rank]->count != sign.count;
    if (sign.state == LifeState::kEnded) {
      ended.add(concat(who, " has ended its work"));
    } else if (sign.state != LifeState::kRunning) {
      continue;
    } else if (!moves) {
      dead.add(concat(who,
                      " has stopped or is stuck (killed, halted, or its machine or network is ",
                      "down): no sign of life in ", std::round(100 * seconds) / 100,
                      " s of watching; in its last one it ", sign.activity));
    } else {
      alive.add(concat(who, " lives; it ", sign.activity));
    }
  }
  return {dead.text("ranks give no sign of life"),
          ended.text("have ended") + alive.text("ranks live")};
}

}  // namespace gimbal
