// When nothing fits: how much memory would do.
#pragma once

#include <string>
#include <vector>

#include "gimbal/plan/search/evaluator.h"

namespace gimbal {

struct PackedCandidate {
  const Candidate* candidate;
  const PackedWork* packed;
};

/// Throws UserError that names the least memory of a device on which one of the candidates fits,
/// and which one that is.
[[noreturn]] void throw_memory_too_small(Evaluator& evaluator,
                                         const std::vector<PackedCandidate>& candidates);

/// "1 device", "8 devices".
std::string count_devices(int devices);

}  // namespace gimbal
