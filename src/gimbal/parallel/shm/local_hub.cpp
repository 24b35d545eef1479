#include "gimbal/parallel/shm/local_hub.h"

#include <stdexcept>
#include <string>
#include <utility>

#include "gimbal/base/error.h"
#include "gimbal/parallel/shm/local_call.h"

namespace gimbal {
namespace {

using HubClock = std::chrono::steady_clock;

/// Being woken takes tens of microseconds; a process with a core of its own looks that long first.
constexpr std::chrono::microseconds kLongestSpin{300};
/// How often a process that waits looks whether the others live.
constexpr std::chrono::milliseconds kLongestSleep{200};

void pause_core() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

LocalHub::LocalHub(SharedMemory bells, const std::vector<pid_t>& processes, std::size_t own)
    : bells_(std::move(bells)),
      own_(own),
      may_spin_(processes.size() <= std::thread::hardware_concurrency()) {
  GIMBAL_CHECK(own < processes.size() && bells_.size() >= num_bytes(processes.size()), "process ",
               own, " of ", processes.size());
  for (const pid_t process : processes) watches_.emplace_back(process);
  pusher_ = std::thread([this] { run_pusher(); });
}

LocalHub::~LocalHub() {
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
    changed_.notify_all();
  }
  bell(own_).ring();
  pusher_.join();
}

void LocalHub::wait(LocalCall& call, std::chrono::milliseconds timeout,
                    const std::atomic<bool>& interrupted) {
  const auto begin = HubClock::now();
  auto looked = begin;
  Doorbell& own_bell = bell(own_);
  std::unique_lock lock(mutex_);
  is_waiting_ = true;
  const auto stop_waiting = [&] {
    is_waiting_ = false;
    push_in_background();
  };
  try {
    while (true) {
      const std::uint32_t seen = own_bell.rings();
      advance(true);
      if (call.is_done()) break;
      if (call.failure_) std::rethrow_exception(call.failure_);
      if (interrupted) throw std::runtime_error("another rank has failed");
      const auto now = HubClock::now();
      if (now - begin > timeout)
        throw std::runtime_error("timed out waiting for " + call.describe_open());
      if (now - looked > kLongestSleep) {
        looked = now;
        // What an ended process has sent is there.
        if (const std::string ended = call.describe_ended(); !ended.empty()) {
          advance(true);
          if (call.is_done()) break;
          throw std::runtime_error(ended);
        }
      }
      lock.unlock();
      if (may_spin_ && now - begin < kLongestSpin) {
        pause_core();
      } else {
        own_bell.wait(seen, kLongestSleep);
      }
      lock.lock();
    }
  } catch (...) {
    stop_waiting();
    throw;
  }
  stop_waiting();
}

void LocalHub::advance(bool incoming) {
  for (LocalGroup* const group : groups_) group->advance(incoming);
  if (!incoming) return;
  // Calls whose second phase begins; it may be through at once.
  while (!ready_.empty()) {
    LocalCall& call = *ready_.front();
    ready_.pop_front();
    const LocalCall::Then then = std::exchange(call.then_, nullptr);
    try {
      then(call);
      call.owes_second_phase_ = false;
    } catch (...) {
      call.fail(std::current_exception());
      call.group().break_second_phases();
    }
    call.group().advance(incoming);
  }
}

void LocalHub::push_in_background() {
  if (num_unsent_ > 0) changed_.notify_all();
}

LocalHub::Away::Away(LocalHub& hub) : hub_(hub) {
  const std::lock_guard lock(hub_.mutex_);
  hub_.is_away_ = true;
  hub_.changed_.notify_all();
  hub_.bell(hub_.own_).ring();  // the thread may sleep there, with only its sends looked after
}

LocalHub::Away::~Away() {
  const std::lock_guard lock(hub_.mutex_);
  hub_.is_away_ = false;
  hub_.push_in_background();
}

void LocalHub::run_pusher() {
  Doorbell& own_bell = bell(own_);
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return ends_ || is_away_ || (num_unsent_ > 0 && !is_waiting_); });
    if (ends_) return;
    const std::uint32_t seen = own_bell.rings();
    advance(is_away_);
    if (num_unsent_ == 0 && !is_away_) continue;
    lock.unlock();
    own_bell.wait(seen, kLongestSleep);
    lock.lock();
  }
}

}  // namespace gimbal
