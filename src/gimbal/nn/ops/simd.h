// Loops that the compiler vectorises: float loads and stores of both CPU compute dtypes, exp, and a
// marker for functions that are compiled for several instruction sets and chosen at load time.
#pragma once

#include <bit>
#include <cstdint>

#if defined(__x86_64__) && defined(__GNUC__) && __GNUC__ >= 12 && !defined(__clang__)
#define GIMBAL_SIMD_CLONES \
  __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define GIMBAL_SIMD_CLONES
#endif
#define GIMBAL_INLINE inline __attribute__((always_inline))

namespace gimbal::simd {

/// The bits of a bfloat16 number.
struct Bf16 {
  std::uint16_t bits;
};

GIMBAL_INLINE float load(const float* p) { return *p; }
GIMBAL_INLINE float load(const Bf16* p) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(p->bits) << 16);
}
GIMBAL_INLINE void store(float* p, float value) { *p = value; }
/// Rounds to nearest even.
GIMBAL_INLINE void store(Bf16* p, float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t rounded = (bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16;
  // The addition would turn some NaNs into infinity.
  p->bits = static_cast<std::uint16_t>(value == value ? rounded : 0x7fc0U);
}

/// e^x with a relative error below 3e-7; 0 below -87.3, infinity above 88.7, NaN for NaN. Range
/// reduction by ln 2 and a polynomial of degree 6.
GIMBAL_INLINE float exp(float x) {
  const float clamped = x < -87.3f ? -87.3f : (x > 88.0f ? 88.0f : x);
  constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const float shifted = clamped * 1.44269504088896341f + kMagic;
  const float n = shifted - kMagic;
  const float r = (clamped - n * 0.693145751953125f) - n * 1.428606765330187e-6f;
  float p = 1.3888889e-3f;
  p = p * r + 8.3333333e-3f;
  p = p * r + 4.1666667e-2f;
  p = p * r + 1.6666667e-1f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const std::int32_t exponent =
      std::bit_cast<std::int32_t>(shifted) - std::bit_cast<std::int32_t>(kMagic);
  const float scale = std::bit_cast<float>((exponent + 127) << 23);
  const float result = p * scale;
  const float low = x < -87.3f ? 0.0f : result;
  return x > 88.7f ? __builtin_inff() : (x > 88.0f ? __builtin_inff() : low);
}

/// Lanes of a sum that may be added in any order: without them the compiler has to keep the order
/// and cannot vectorise.
inline constexpr int kLanes = 16;

}  // namespace gimbal::simd
