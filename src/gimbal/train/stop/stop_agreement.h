// Whether ranks that go through rounds together have to leave early.
#pragma once

#include <chrono>
#include <cstdint>

#include "gimbal/parallel/comm.h"

namespace gimbal {

/// Asks the ranks for a stop signal: before the first round, and then about once a second, by a
/// number of rounds that all ranks derive from the same message.
class StopAgreement {
 public:
  /// `comm` must outlive this object.
  explicit StopAgreement(Comm& comm) : comm_(comm) {}

  /// True on all ranks when one of them has received a stop signal. Collective before each round:
  /// a rank with nothing to do in a round calls it all the same.
  bool stops();

 private:
  Comm& comm_;
  std::int64_t rounds_ = 0;       // from the last question to the next
  std::int64_t rounds_left_ = 0;  // until the next
  std::chrono::steady_clock::time_point asked_ = std::chrono::steady_clock::now();
};

/// How many rounds to go until the next question, after `rounds` rounds took `seconds`: about a
/// second's, and at most twice as many as before.
std::int64_t rounds_until_question(std::int64_t rounds, double seconds);

}  // namespace gimbal
