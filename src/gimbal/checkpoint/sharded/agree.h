// Errors that all ranks learn of, so that none goes on alone, and waits that outlast the timeout of
// a collective.
#pragma once

#include <chrono>
#include <exception>
#include <functional>
#include <string>

#include "gimbal/parallel/comm.h"

namespace gimbal {

/// Collective. Returns when no rank has an error. Otherwise throws on all ranks: this rank's error
/// as it is, or the first rank's that has one, with "rank 3: " before it.
void agree_on_error(Comm& comm, const std::exception_ptr& error, const std::string& name);

/// Collective. Runs `work`, which must not communicate, and agrees on its errors.
void run_together(Comm& comm, const std::string& name, const std::function<void()>& work);

/// How far work in another thread is.
enum class SlowWork { kRunning, kDone, kFailed };

/// Collective. Returns when the work of all ranks is done or that of one has failed. The ranks tell
/// each other in short rounds that they are there: only a silent one runs into the timeout of a
/// collective, and the work may take any time. `wait` returns at the end of this rank's work, at
/// the latest after the given time.
void wait_together(Comm& comm, const std::string& name,
                   const std::function<SlowWork(std::chrono::milliseconds)>& wait);

/// Collective. As run_together for work that may take longer than a collective's timeout: it runs
/// in another thread while this one waits together with the other ranks.
void run_slow_together(Comm& comm, const std::string& name, const std::function<void()>& work);

}  // namespace gimbal
