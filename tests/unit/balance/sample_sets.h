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

}  // namespace gimbal::testing
