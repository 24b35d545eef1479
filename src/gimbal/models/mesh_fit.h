// Whether a model's heads can be cut over the ranks that share a pack.
#pragma once

#include <cstdint>

#include "gimbal/nn/ports.h"

namespace gimbal {

/// Tensor-parallel ranks behind `ports`.
int tensor_parts(const Ports& ports);
/// Sequence-parallel ranks behind `ports`.
int sequence_parts(const Ports& ports);

/// Throws UserError with heads_objection for the text model's query and key-value heads.
void check_text_heads(std::int64_t num_heads, std::int64_t num_kv_heads, const Ports& ports);

/// Throws UserError with heads_objection for the vision tower's heads.
void check_vision_heads(std::int64_t num_heads, const Ports& ports);

}  // namespace gimbal
