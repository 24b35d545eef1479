// Ranks that fail in the same way say so once.
#pragma once

#include <chrono>
#include <string>

#include "gimbal/parallel/launch.h"

namespace gimbal {

/// Whether this rank should print `error`, with which it ends: false when another rank of the
/// launch that fails in the same way does. Asks the store of torchrun's agent; without one, and
/// when it does not answer within `patience`, every rank prints. Ranks other than 0 first give
/// rank 0 half a second. "rank 3: " in front, with which other ranks repeat what rank 3 says, makes
/// no difference. Not collective, needs no groups, and never throws. Leaves behind a thread that
/// waits for an agent that does not answer.
bool is_first_to_report(
    const LaunchInfo& launch, const std::string& error,
    std::chrono::milliseconds patience = std::chrono::milliseconds(2000)) noexcept;

}  // namespace gimbal
