// Shapes of the tensors between two blocks, known without running them.
#pragma once

#include <cstdint>
#include <optional>

namespace gimbal {

struct RowsShape {
  std::int64_t rows = 0;  // of this rank
  std::int64_t width = 0;
  bool operator==(const RowsShape&) const = default;
};

/// Streams that are alive; no loss, no logits.
struct FlowShape {
  std::optional<RowsShape> vision;
  std::optional<RowsShape> text;
  bool operator==(const FlowShape&) const = default;
};

}  // namespace gimbal
