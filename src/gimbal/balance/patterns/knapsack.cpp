#include "gimbal/balance/patterns/knapsack.h"

#include <algorithm>

#include "gimbal/base/error.h"

namespace gimbal {

Knapsack::Knapsack(std::vector<std::uint32_t> cells, std::vector<std::uint32_t> caps)
    : cells_(std::move(cells)), caps_(std::move(caps)) {
  const std::size_t dims = caps_.size();
  GIMBAL_CHECK(dims > 0 && cells_.size() % dims == 0);
  strides_.assign(dims, 1);
  for (std::size_t d = dims - 1; d > 0; --d) strides_[d - 1] = strides_[d] * (caps_[d] + 1);
  best_.resize(strides_[0] * (caps_[0] + 1));
  values_.resize(cells_.size() / dims);
  for (std::size_t type = 0; type < values_.size(); ++type) {
    std::size_t offset = 0;
    for (std::size_t d = 0; d < dims; ++d) {
      GIMBAL_CHECK_LE(cells_[type * dims + d], caps_[d], "a type that does not fit alone");
      offset += strides_[d] * cells_[type * dims + d];
    }
    // Samples without any demand fit into every pack; they are not part of patterns.
    GIMBAL_CHECK(offset > 0, "a type without size");
    offsets_.push_back(offset);
  }
}

std::int64_t Knapsack::solve(std::span<const std::int32_t> values) {
  GIMBAL_CHECK_EQ(values.size(), values_.size());
  values_.assign(values.begin(), values.end());
  std::fill(best_.begin(), best_.end(), 0);
  for (std::uint32_t type = 0; type < values_.size(); ++type) {
    if (values_[type] > 0) relax(type);
  }
  return best_.back();
}

// best[s] = max(best[s], best[s - size] + value) for ascending s, which lets a type be taken again.
void Knapsack::relax(std::uint32_t type) {
  const std::size_t dims = caps_.size();
  const std::uint32_t* size = &cells_[type * dims];
  const std::size_t offset = offsets_[type];
  const std::int32_t value = values_[type];
  const std::size_t begin = size[dims - 1];
  const std::size_t end = caps_[dims - 1] + 1;
  std::vector<std::uint32_t> at(size, size + dims - 1);  // of the other dims
  while (true) {
    std::size_t row = 0;
    for (std::size_t d = 0; d + 1 < dims; ++d) row += strides_[d] * at[d];
    // Within a block no entry depends on another one.
    for (std::size_t from = begin; from < end; from += offset) {
      const std::size_t to = std::min(end, from + offset);
      std::int32_t* target = best_.data() + row;
      const std::int32_t* source = best_.data() + row - offset;
#pragma GCC ivdep
      for (std::size_t i = from; i < to; ++i) {
        const std::int32_t with = source[i] + value;
        target[i] = target[i] > with ? target[i] : with;
      }
    }
    std::size_t d = dims - 1;
    while (d > 0 && at[d - 1] == caps_[d - 1]) {
      at[d - 1] = size[d - 1];
      --d;
    }
    if (d == 0) return;
    ++at[d - 1];
  }
}

std::int64_t Knapsack::value_with(std::uint32_t type) const {
  return best_[best_.size() - 1 - offsets_[type]] + values_[type];
}

PatternColumn Knapsack::pattern_with(std::uint32_t type) const {
  const std::size_t dims = caps_.size();
  std::vector<std::uint32_t> room(caps_);
  std::vector<std::uint32_t> taken;
  std::size_t state = best_.size() - 1;
  const auto take = [&](std::uint32_t t) {
    for (std::size_t d = 0; d < dims; ++d) room[d] -= cells_[t * dims + d];
    state -= offsets_[t];
    taken.push_back(t);
  };
  take(type);
  const auto num_types = static_cast<std::uint32_t>(values_.size());
  // Starting the search at the type itself makes the patterns of neighbours differ.
  std::uint32_t next = type;
  while (best_[state] > 0) {
    std::uint32_t tried = 0;
    for (;; ++tried) {
      GIMBAL_CHECK(tried < num_types, "a value without a pattern");
      bool fits = values_[next] > 0;
      for (std::size_t d = 0; fits && d < dims; ++d) fits = cells_[next * dims + d] <= room[d];
      if (fits && best_[state - offsets_[next]] + values_[next] == best_[state]) break;
      next = next + 1 == num_types ? 0 : next + 1;
    }
    take(next);
  }
  std::sort(taken.begin(), taken.end());
  PatternColumn column;
  for (const std::uint32_t t : taken) {
    if (column.empty() || column.back().type != t) column.push_back({t, 0});
    ++column.back().count;
  }
  return column;
}

}  // namespace gimbal
