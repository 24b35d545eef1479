// Which tiles of a batch a rank reads the pixels of.
#pragma once

#include <cstdint>
#include <functional>

namespace gimbal {

/// Tiles [begin, end) of a batch, in the order of its samples and their pictures.
struct TileRange {
  std::int64_t begin = 0, end = 0;
  std::int64_t size() const { return end - begin; }
  bool operator==(const TileRange&) const = default;
};

/// The tiles that a rank reads of a batch of `num_tiles`. Called from several threads at a time.
using TileChoice = std::function<TileRange(std::int64_t num_tiles)>;

inline TileRange all_tiles(std::int64_t num_tiles) { return {0, num_tiles}; }

}  // namespace gimbal
