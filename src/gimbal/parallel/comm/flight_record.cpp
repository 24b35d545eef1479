#include "gimbal/parallel/comm/flight_record.h"

#include <algorithm>
#include <iomanip>
#include <sstream>

#include "gimbal/base/byte_text.h"

namespace gimbal {
namespace {

std::string format_seconds(std::chrono::steady_clock::duration duration) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(3) << std::chrono::duration<double>(duration).count()
      << " s";
  return out.str();
}

std::string describe_call(const FlightCall& call) {
  return call.collective + " of '" + call.what + "' (group " + call.group + ")";
}

}  // namespace

FlightRecord::FlightRecord(std::size_t capacity)
    : ring_(std::max<std::size_t>(1, capacity)), active_since_(Clock::now()) {}

FlightRecord::Entry& FlightRecord::slot(std::int64_t number) {
  return ring_[static_cast<std::size_t>(number) % ring_.size()];
}

const FlightRecord::Entry& FlightRecord::slot(std::int64_t number) const {
  return ring_[static_cast<std::size_t>(number) % ring_.size()];
}

std::int64_t FlightRecord::begin(const FlightCall& call) {
  const Clock::time_point now = Clock::now();
  const std::lock_guard lock(mutex_);
  slot(next_) = {next_, call, State::kUnderWay, now, now};
  if (waiting_ < 0) active_since_ = now;
  return next_++;
}

void FlightRecord::wait(std::int64_t number) {
  const std::lock_guard lock(mutex_);
  waiting_ = number;
  active_since_ = Clock::now();
}

void FlightRecord::end(std::int64_t number) { finish(number, State::kDone); }

void FlightRecord::fail(std::int64_t number) { finish(number, State::kFailed); }

void FlightRecord::finish(std::int64_t number, State state) {
  const std::lock_guard lock(mutex_);
  Entry& entry = slot(number);
  const Clock::time_point now = Clock::now();
  // A call that was waited for very late may have left the ring.
  if (entry.number == number) {
    entry.state = state;
    entry.end = now;
  }
  if (waiting_ == number) {
    waiting_ = -1;
    active_since_ = now;
  }
}

std::string FlightRecord::activity() const {
  const std::lock_guard lock(mutex_);
  const std::string since = format_seconds(Clock::now() - active_since_);
  if (waiting_ >= 0 && slot(waiting_).number == waiting_)
    return "waits for " + since + " in " + describe_call(slot(waiting_).call);
  if (waiting_ >= 0) return "waits for " + since;
  if (next_ == 0) return "has not communicated yet";
  return "is in no collective for " + since + "; the last was " +
         describe_call(slot(next_ - 1).call);
}

std::string FlightRecord::report(std::size_t num_lines) const {
  const std::lock_guard lock(mutex_);
  const auto count = static_cast<std::int64_t>(std::min(num_lines, ring_.size()));
  std::ostringstream out;
  for (std::int64_t number = std::max<std::int64_t>(0, next_ - count); number < next_; ++number) {
    const Entry& entry = slot(number);
    const bool open = entry.state == State::kUnderWay;
    out << (entry.state == State::kFailed ? "  > "
            : open                        ? "  * "
                                          : "    ")
        << std::setw(6) << number << "  " << describe_call(entry.call) << "  "
        << bytes_text(static_cast<double>(entry.call.bytes)) << "  "
        << format_seconds((open ? Clock::now() : entry.end) - entry.begin)
        << (entry.state == State::kFailed ? "  failed"
            : open                        ? "  under way"
                                          : "")
        << "\n";
  }
  return out.str();
}

}  // namespace gimbal
