// Sizes of packs: what the blocks are measured on.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "gimbal/arch/model_desc.h"

namespace gimbal {

/// The sizes of a sample that decide its cost.
struct SampleShape {
  std::int64_t tokens = 0;       // visual ones included
  std::int64_t vision_rows = 0;  // tiles
  std::int64_t loss_tokens = 0;
  bool operator==(const SampleShape&) const = default;
};
using PackShape = std::vector<SampleShape>;

WorkSize work_of(const PackShape& pack);

/// Rows that a pack may hold at most. vision_rows 0: no limit.
struct PackRoom {
  std::int64_t tokens = 0;
  std::int64_t vision_rows = 0;
};

/// Packs of `samples` that tell rows and pairs apart over the range that training uses: from an
/// eighth of the room to all of it, from all samples, from the shortest third and from the longest
/// third. In order of tokens. A sample without room is never drawn; when none has room, the packs
/// are single samples, the smallest ones. `samples` must not be empty.
std::vector<PackShape> choose_packs(std::span<const SampleShape> samples, const PackRoom& room,
                                    std::uint64_t seed);

/// Samples to measure with when there is no dataset: text of 16 tokens to half of the room and, for
/// a model with pictures (tokens_per_vision_row above 0), 0 to 4 tiles.
std::vector<SampleShape> typical_samples(const ModelDesc& model, const PackRoom& room,
                                         std::uint64_t seed);

}  // namespace gimbal
