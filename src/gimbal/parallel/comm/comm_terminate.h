// What the process says when an exception ends it in a thread of a backend: Gloo's transport throws
// there when a message is longer than its receiver expects, NCCL's watchdog after a timeout.
// Included by comm_*.cpp only.
#pragma once

#include <memory>

namespace gimbal {

struct CommState;

/// From now on std::terminate tells the other ranks, prints the error and the last collectives to
/// stderr, and goes on to the handler that was there before. The last state given counts, as long
/// as it lives.
void report_terminate(const std::shared_ptr<CommState>& state);

}  // namespace gimbal
