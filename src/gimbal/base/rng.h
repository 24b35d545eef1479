// Counter-based random numbers: a pure function of (seed, stream, index), the same on every rank
// and in any order of calls.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace gimbal {

/// A bijective mix of 64 bits (finaliser of SplitMix64; Steele, Lea and Flood 2014).
constexpr std::uint64_t mix_bits(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

/// FNV-1a of the characters: a stream number for a name.
std::uint64_t hash_name(std::string_view name);

class CounterRng {
 public:
  explicit CounterRng(std::uint64_t seed, std::uint64_t stream = 0)
      : key_(mix_bits(mix_bits(seed) ^ mix_bits(stream + 0x632be59bd9b4e019ULL))) {}

  std::uint64_t bits(std::uint64_t index) const { return mix_bits(key_ ^ mix_bits(index)); }
  /// Uniform in [0, 1).
  double uniform(std::uint64_t index) const {
    return static_cast<double>(bits(index) >> 11) * 0x1.0p-53;
  }
  /// Standard normal (Box and Muller 1958).
  double normal(std::uint64_t index) const;
  /// Uniform in [0, bound) without modulo bias for bounds far below 2^64.
  std::uint64_t below(std::uint64_t index, std::uint64_t bound) const;

 private:
  std::uint64_t key_;
};

/// The numbers 0 .. size-1 in a random order (Fisher-Yates).
std::vector<std::uint32_t> random_permutation(std::uint32_t size, const CounterRng& rng);

}  // namespace gimbal
