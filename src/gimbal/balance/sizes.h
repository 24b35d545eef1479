// What the balancer knows of the samples: rows per stream, cost, source.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace gimbal {

/// Cost of a stream's rows: `per_row * rows + per_pair * sum(rows_i^2)` (the squares are attention
/// inside a sample), in any unit.
struct StreamCost {
  double per_row = 1.0;
  double per_pair = 0.0;
};

/// N samples x K streams, row-major, not owned.
struct SampleSizes {
  std::span<const std::uint32_t> rows;  // [N * K]
  int num_streams = 0;

  std::size_t num_samples() const {
    return num_streams == 0 ? 0 : rows.size() / static_cast<std::size_t>(num_streams);
  }
  std::uint32_t at(std::size_t sample, int stream) const {
    return rows[sample * static_cast<std::size_t>(num_streams) + static_cast<std::size_t>(stream)];
  }
};

/// Per stream the most rows in a pack; 0 = no cap. `samples`: most samples in a pack; 0 = no cap.
struct PackCaps {
  std::vector<std::uint64_t> rows;
  std::uint64_t samples = 0;
};

/// Cost of one sample's rows in one stream.
inline double stream_cost(std::uint32_t rows, const StreamCost& cost) {
  const double n = rows;
  return cost.per_row * n + cost.per_pair * n * n;
}

/// Cost of one sample, summed over the streams. `costs` has one entry per stream.
double sample_cost(const SampleSizes& sizes, std::size_t sample, std::span<const StreamCost> costs);

}  // namespace gimbal
