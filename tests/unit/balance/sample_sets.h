// Sets of sample sizes for the tests of the balancer.
#pragma once

#include <cstdint>
#include <vector>

#include "gimbal/balance/sizes.h"
#include "gimbal/base/rng.h"

namespace gimbal::testing {

struct SampleSet {
  int num_streams = 1;
  std::vector<std::uint32_t> rows;
  PackCaps caps;

  SampleSizes sizes() const { return {rows, num_streams}; }
};

/// Two streams as pictures that are cut into 1 to 4 tiles plus a thumbnail give them, with text
/// beside.
inline SampleSet tiled_pictures(std::uint32_t num_samples, std::uint64_t seed) {
  const CounterRng rng(seed);
  SampleSet set{2, {}, {{16, 5376}, 0}};
  for (std::uint32_t i = 0; i < num_samples; ++i) {
    const std::uint64_t cut = rng.below(3 * i, 5);
    const auto tiles = static_cast<std::uint32_t>(cut == 0 ? 1 : cut == 1 ? 3 : 5);
    set.rows.push_back(tiles);
    set.rows.push_back(tiles * 256 + 10 + static_cast<std::uint32_t>(rng.below(3 * i + 1, 300)));
  }
  return set;
}

/// 1 to 4 streams, the last one text: native-resolution pictures, audio clips and video, each in a
/// part of the samples and with text of its length beside. Sizes are wide, so that hardly two
/// samples are alike.
inline SampleSet modality_mix(int num_streams, std::uint32_t num_samples, std::uint64_t seed) {
  const CounterRng rng(seed);
  const auto wide = [&rng](std::uint64_t index, std::uint64_t least) {
    const std::uint64_t octave = rng.below(index, 4);
    return static_cast<std::uint32_t>((least << octave) +
                                      rng.below(index + 1, (least << octave) + 1));
  };
  SampleSet set{num_streams, {}, {std::vector<std::uint64_t>(), 0}};
  for (int k = 0; k < num_streams; ++k) set.caps.rows.push_back(k + 1 < num_streams ? 4096 : 8192);
  for (std::uint32_t i = 0; i < num_samples; ++i) {
    std::uint32_t rows = 0;
    for (int k = 0; k + 1 < num_streams; ++k) {
      const std::uint64_t index = 32 * std::uint64_t{i} + 4 * static_cast<std::uint64_t>(k);
      const bool has = rng.below(index + 2, 100) < 55;
      set.rows.push_back(has ? wide(index, 100) : 0);
      rows += set.rows.back();
    }
    set.rows.push_back(rows / 2 + wide(32 * std::uint64_t{i} + 28, 60));
  }
  return set;
}

}  // namespace gimbal::testing
