// The result of packing: which samples are together.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace gimbal {

/// Packs as one array: pack p holds samples[offsets[p] .. offsets[p+1]).
struct Packs {
  std::vector<std::uint64_t> offsets{0};
  std::vector<std::uint32_t> samples;

  std::size_t size() const { return offsets.size() - 1; }
  std::span<const std::uint32_t> operator[](std::size_t p) const {
    return {samples.data() + offsets[p], static_cast<std::size_t>(offsets[p + 1] - offsets[p])};
  }
  std::span<std::uint32_t> mutable_pack(std::size_t p) {
    return {samples.data() + offsets[p], static_cast<std::size_t>(offsets[p + 1] - offsets[p])};
  }
  /// Adds one pack; an empty one is not added.
  void add(std::span<const std::uint32_t> pack) {
    if (pack.empty()) return;
    samples.insert(samples.end(), pack.begin(), pack.end());
    offsets.push_back(samples.size());
  }
};

}  // namespace gimbal
