// The last collectives of this process over all its groups: what an error prints, and what the
// other ranks are told about this one.
#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

namespace gimbal {

/// What is communicated by whom.
struct FlightCall {
  std::string collective;
  std::string what;
  std::string group;
  std::int64_t bytes = 0;  // of this rank's tensor
};

/// May be used by several threads.
class FlightRecord {
 public:
  /// Keeps the last `capacity` calls.
  explicit FlightRecord(std::size_t capacity = 256);

  /// Returns the call's number: 0, 1, ..
  std::int64_t begin(const FlightCall& call);
  /// This rank does nothing but wait for the call from now on.
  void wait(std::int64_t number);
  void end(std::int64_t number);
  void fail(std::int64_t number);

  /// One line: what this rank waits for and since when, or its last call.
  std::string activity() const;
  /// The last `num_lines` calls, one a line, oldest first: number, collective, what, group, bytes,
  /// seconds; the failed one and those still under way are marked.
  std::string report(std::size_t num_lines = 16) const;

 private:
  using Clock = std::chrono::steady_clock;
  enum class State { kUnderWay, kDone, kFailed };
  struct Entry {
    std::int64_t number = -1;
    FlightCall call;
    State state = State::kUnderWay;
    Clock::time_point begin, end;
  };

  Entry& slot(std::int64_t number);
  const Entry& slot(std::int64_t number) const;
  void finish(std::int64_t number, State state);

  mutable std::mutex mutex_;
  std::vector<Entry> ring_;
  std::int64_t next_ = 0;
  std::int64_t waiting_ = -1;       // number of the call
  Clock::time_point active_since_;  // when the waiting, or the time between calls, began
};

}  // namespace gimbal
