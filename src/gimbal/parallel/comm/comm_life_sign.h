// What a rank reads about the others, and what it says about them.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace gimbal {

enum class LifeState { kRunning, kFailed, kLeft, kEnded };

/// What a rank writes about itself.
struct LifeSign {
  long count = 0;  // grows with each sign
  LifeState state = LifeState::kRunning;
  std::string place;     // coordinates and host
  std::string activity;  // what it does, or the error that it has failed with
};

std::string encode(const LifeSign& sign);
/// nullopt for a text that encode has not made.
std::optional<LifeSign> decode_life_sign(const std::string& text);

/// Sentences about other ranks.
struct RankReport {
  std::string dead;    // who gives no sign of life
  std::string others;  // who has ended, what the living do
};

/// About all ranks but `own`, from two readings, `seconds` apart; those that have failed speak for
/// themselves. Entry r is of rank r; nullopt: it has never written any.
RankReport describe_ranks(const std::vector<std::optional<LifeSign>>& before,
                          const std::vector<std::optional<LifeSign>>& after, int own,
                          double seconds);

}  // namespace gimbal
