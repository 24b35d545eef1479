// Sizes of packs: what the blocks are measured on.
#pragma once

#include <cstdint>
#include <span>
#include <string>
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

/// What is missing to fit lines: a text for each class of blocks that the packs give fewer unlike
/// sizes of than its line has coefficients (rows, pairs and a constant).
std::vector<std::string> too_few_sizes(const ModelDesc& model, std::span<const WorkSize> packs);

/// Rows that a pack may hold at most. vision_rows 0: no limit.
struct PackRoom {
  std::int64_t tokens = 0;
  std::int64_t vision_rows = 0;
};

/// Packs of `samples` that tell rows and pairs apart over the range that training uses: from an
/// eighth of the room to all of it, from all samples, from the shortest third and from the longest
/// third. When these are few, because most samples nearly fill the room, single samples from the
/// shortest to the longest and repeats of the shortest are added. In order of tokens; no two have
/// the same work. A sample without room is in none; when no sample has room, throws UserError that
/// names the smallest one, by its place in `samples`, and the cap. `samples` must not be empty.
std::vector<PackShape> choose_packs(std::span<const SampleShape> samples, const PackRoom& room,
                                    std::uint64_t seed);

/// Samples to measure with when there is no dataset: text of 16 tokens to half of the room and, for
/// a model with pictures (tokens_per_vision_row above 0), 0 to 4 tiles. Throws UserError for a room
/// of less than 16 tokens.
std::vector<SampleShape> typical_samples(const ModelDesc& model, const PackRoom& room,
                                         std::uint64_t seed);

}  // namespace gimbal
