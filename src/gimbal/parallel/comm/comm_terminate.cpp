#include "gimbal/parallel/comm/comm_terminate.h"

#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <mutex>

#include "gimbal/base/error.h"
#include "gimbal/parallel/comm/comm_c10d.h"
#include "gimbal/parallel/comm/comm_state.h"

namespace gimbal {
namespace {

// A terminate handler has no arguments: the one place with state of the process.
struct TerminateSubject {
  std::mutex mutex;
  std::weak_ptr<CommState> state;
  std::terminate_handler previous = nullptr;
};

TerminateSubject& terminate_subject() {
  // Never destroyed: threads of backends may outlive main().
  static auto* subject = new TerminateSubject();
  return *subject;
}

std::string terminate_reason() {
  const std::exception_ptr error = std::current_exception();
  if (!error) return "std::terminate without an exception";
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& e) {
    return reason_of(e);
  } catch (...) {
    return "an exception of unknown type";
  }
}

void tell_of_terminate(CommState& state) {
  const std::string reason = terminate_reason();
  const std::string what = concat("an error that nobody has caught ends ", state.describe_rank());
  std::cerr << concat("gimbal: ", what,
                      ", in a thread of the communication or of the program: ", reason,
                      "\nLast collectives of this rank (> failed, * under way):\n",
                      state.record->report())
            << std::flush;
  if (state.health) state.health->report_failure(concat(what, ": ", reason));
}

[[noreturn]] void on_terminate() noexcept {
  static std::atomic_flag reporting;
  // A second thread that comes here leaves the end of the process to the first.
  while (reporting.test_and_set()) pause();
  TerminateSubject& subject = terminate_subject();
  std::terminate_handler previous = nullptr;
  std::shared_ptr<CommState> state;
  {
    const std::lock_guard lock(subject.mutex);
    state = subject.state.lock();
    previous = subject.previous;
  }
  try {
    if (state) tell_of_terminate(*state);
  } catch (...) {
    // There is nobody left to tell.
  }
  if (previous != nullptr) previous();
  std::abort();
}

}  // namespace

void report_terminate(const std::shared_ptr<CommState>& state) {
  TerminateSubject& subject = terminate_subject();
  const std::lock_guard lock(subject.mutex);
  subject.state = state;
  if (std::get_terminate() != on_terminate) subject.previous = std::set_terminate(on_terminate);
}

}  // namespace gimbal
