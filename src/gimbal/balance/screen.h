// Samples that no pack can hold, and what is done about them.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "gimbal/balance/limits.h"

namespace gimbal {

/// kError: throw, listing them. kReject: leave them out and report them. kAlone: each is a pack of
/// its own, above the cap; the caller vouches for the memory.
enum class OversizePolicy { kError, kReject, kAlone };

/// Why a sample is not packed with others.
struct Rejection {
  std::uint32_t sample;
  std::string reason;  // "9000 tokens, cap 4096"
};

/// Result of screening.
struct Screening {
  std::vector<Rejection> rejected;  // kReject, ascending by sample
  std::vector<Rejection> oversize;  // kAlone: packed alone
  /// Per sample: 0 = packed with others, 1 = rejected, 2 = alone. Empty when all are 0.
  std::vector<std::uint8_t> fate;
};

/// Looks at every sample once. `describe` names a sample in messages (file and line); empty:
/// "sample 12". Throws UserError under kError when a sample exceeds a limit alone; the message
/// lists the first ten of them and their number.
Screening screen_samples(const PackLimits& limits, OversizePolicy policy,
                         const std::function<std::string(std::uint32_t)>& describe = {});

}  // namespace gimbal
