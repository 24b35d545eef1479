// Which attention heads each sequence part has.
#pragma once

#include <cstdint>
#include <vector>

namespace gimbal {

/// Head by head; a head may occur several times, and in several parts.
using HeadList = std::vector<std::int64_t>;

/// The even cut of query heads: part p begins at floor(p * num_heads / parts).
std::vector<HeadList> query_heads_of_parts(std::int64_t num_heads, int parts);

/// The kv heads that each part's query heads use, `num_heads` a multiple of `num_kv_heads`: as few
/// as possible such that n query heads and k kv heads of a part go together in equal groups of
/// neighbours, n / k query heads to one kv head.
std::vector<HeadList> kv_heads_of_parts(std::int64_t num_kv_heads, std::int64_t num_heads,
                                        int parts);

/// `count` neighbouring heads from `head` on, at the places from `place` on of a list.
struct HeadRun {
  std::int64_t place = 0;
  std::int64_t head = 0;
  std::int64_t count = 0;
  bool operator==(const HeadRun&) const = default;
};

/// The longest runs of a list, in its order.
std::vector<HeadRun> head_runs(const HeadList& heads);

}  // namespace gimbal
