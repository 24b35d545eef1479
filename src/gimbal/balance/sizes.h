// What the balancer knows of the samples: rows per stream, cost, caps.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace gimbal {

/// Cost of a stream's rows: `per_row * rows + per_pair * pairs`, where `pairs` is the sum of
/// squared lengths over what attends to itself (a sample or a media item). In any unit, the same
/// for all streams.
struct StreamCost {
  double per_row = 1.0;
  double per_pair = 0.0;
};

/// N samples x K streams, row-major, not owned.
struct SampleSizes {
  std::span<const std::uint32_t> rows;  // [N * K]
  int num_streams = 0;
  std::span<const std::uint64_t> pairs = {};  // [N * K]; empty: rows^2
  std::span<const std::string> names = {};    // [K], for messages; empty: "stream 0", ...

  std::size_t num_samples() const {
    return num_streams == 0 ? 0 : rows.size() / static_cast<std::size_t>(num_streams);
  }
  std::uint32_t at(std::size_t sample, int stream) const {
    return rows[sample * static_cast<std::size_t>(num_streams) + static_cast<std::size_t>(stream)];
  }
  double pairs_at(std::size_t sample, int stream) const {
    if (!pairs.empty()) {
      return static_cast<double>(
          pairs[sample * static_cast<std::size_t>(num_streams) + static_cast<std::size_t>(stream)]);
    }
    const double n = at(sample, stream);
    return n * n;
  }
  std::string stream_label(int stream) const;
};

/// What a pack may hold. `rows`: per stream the most rows; 0, or a missing entry, = no cap.
struct PackCaps {
  std::vector<std::uint64_t> rows;
  std::uint64_t samples = 0;  // most samples in a pack; 0 = no cap
  double cost = 0;            // highest cost of a pack, summed over the streams; 0 = no cap

  std::uint64_t of(int stream) const {
    return static_cast<std::size_t>(stream) < rows.size() ? rows[static_cast<std::size_t>(stream)]
                                                          : 0;
  }
};

/// Cost of one sample in one stream.
inline double stream_cost(const SampleSizes& sizes, std::size_t sample, int stream,
                          const StreamCost& cost) {
  return cost.per_row * sizes.at(sample, stream) + cost.per_pair * sizes.pairs_at(sample, stream);
}

/// Cost of one sample, summed over the streams. `costs` has one entry per stream.
double sample_cost(const SampleSizes& sizes, std::size_t sample, std::span<const StreamCost> costs);

}  // namespace gimbal
