#include "gimbal/nn/attention/rotary_table.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/where.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "gimbal/base/error.h"

namespace gimbal {
namespace {

// theta^(2i / H). float32 throughout, as transformers has it: at high positions the rounding of the
// frequencies shows in the angles.
at::Tensor position_periods(double theta, std::int64_t head_dim) {
  const at::Tensor exponents =
      at::arange(0, head_dim, 2, at::kLong).to(at::kFloat) / static_cast<double>(head_dim);
  return at::pow(theta, exponents);
}

double yarn_mscale(double factor, double mscale) {
  return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

// "NTK-by-parts" of YaRN: high frequencies stay, low ones are interpolated, a linear ramp lies
// between.
at::Tensor yarn_frequencies(const RotarySettings& s) {
  const auto width = static_cast<double>(s.head_dim);
  const auto turn_dim = [&](double num_turns) {
    return width * std::log(s.original_max_positions / (num_turns * 2 * std::numbers::pi)) /
           (2 * std::log(s.theta));
  };
  double low = turn_dim(s.beta_fast), high = turn_dim(s.beta_slow);
  if (s.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, width - 1);
  if (low == high) high += 0.001;
  const at::Tensor ramp =
      at::clamp((at::arange(s.head_dim / 2, at::kFloat) - low) / (high - low), 0, 1);
  const at::Tensor keep = ramp * -1.0 + 1.0;
  const at::Tensor periods = position_periods(s.theta, s.head_dim);
  return (periods * s.factor).reciprocal() * (keep * -1.0 + 1.0) + periods.reciprocal() * keep;
}

// Llama 3.1: frequencies whose wave is longer than the old context are divided, a smooth blend in
// the middle band.
at::Tensor llama3_frequencies(const RotarySettings& s) {
  const at::Tensor plain = position_periods(s.theta, s.head_dim).reciprocal();
  const double low_wave = s.original_max_positions / s.low_freq_factor;
  const double high_wave = s.original_max_positions / s.high_freq_factor;
  const at::Tensor wave = plain.reciprocal() * (2 * std::numbers::pi);
  const at::Tensor scaled = at::where(wave > low_wave, plain / s.factor, plain);
  const at::Tensor smooth = (wave.reciprocal() * s.original_max_positions - s.low_freq_factor) /
                            (s.high_freq_factor - s.low_freq_factor);
  const at::Tensor blend = (smooth * -1.0 + 1.0) * scaled / s.factor + smooth * scaled;
  return at::where((wave >= high_wave).logical_and(wave <= low_wave), blend, scaled);
}

// The angle is rounded to float32 before cosine and sine, as in transformers; those are exact to
// the last bit or so.
RotaryAngles cosines(const at::Tensor& positions, const at::Tensor& frequencies, double factor,
                     at::ScalarType dtype) {
  const at::ScalarType wide = dtype == at::kDouble ? at::kDouble : at::kFloat;
  const at::Tensor angles =
      (positions.to(at::kFloat).unsqueeze(1) * frequencies.unsqueeze(0)).to(at::kDouble);
  return {(angles.cos() * factor).to(wide).contiguous(),
          (angles.sin() * factor).to(wide).contiguous(), at::Tensor()};
}

}  // namespace

at::Tensor inverse_frequencies(const RotarySettings& s, std::int64_t length) {
  const at::NoGradGuard no_grad;
  switch (s.scaling) {
    case RotaryScaling::kDefault:
      return position_periods(s.theta, s.head_dim).reciprocal();
    case RotaryScaling::kLinear:
      return position_periods(s.theta, s.head_dim).reciprocal() / s.factor;
    case RotaryScaling::kYarn:
      return yarn_frequencies(s);
    case RotaryScaling::kLlama3:
      return llama3_frequencies(s);
    case RotaryScaling::kDynamic: {
      const auto width = static_cast<double>(s.head_dim),
                 trained = static_cast<double>(s.max_positions);
      const double stretch =
          s.factor * static_cast<double>(std::max(length, s.max_positions)) / trained -
          (s.factor - 1);
      return position_periods(s.theta * std::pow(stretch, width / (width - 2)), s.head_dim)
          .reciprocal();
    }
  }
  throw_internal(__FILE__, __LINE__, "scaling", "unknown rotary scaling");
}

double attention_factor(const RotarySettings& s) {
  if (s.scaling != RotaryScaling::kYarn) return 1.0;
  if (s.attention_factor) return *s.attention_factor;
  if (s.mscale.value_or(0) != 0 && s.mscale_all_dim.value_or(0) != 0)
    return yarn_mscale(s.factor, *s.mscale) / yarn_mscale(s.factor, *s.mscale_all_dim);
  return yarn_mscale(s.factor, 1.0);
}

RotaryAngles RotaryTable::angles(const at::Tensor& positions_T,
                                 const std::vector<std::int64_t>& cu_seqlens,
                                 const std::vector<std::int64_t>& lengths,
                                 at::ScalarType dtype) const {
  std::int64_t longest = 0;
  for (const std::int64_t length : lengths) longest = std::max(longest, length);
  if (settings_.scaling == RotaryScaling::kDynamic && longest > settings_.max_positions)
    return per_segment(positions_T, cu_seqlens, lengths, dtype);
  RotaryAngles result = table(longest, positions_T.device(), dtype);
  result.rows_T = positions_T;
  return result;
}

RotaryAngles RotaryTable::table(std::int64_t num_positions, const at::Device& device,
                                at::ScalarType dtype) const {
  const at::ScalarType wide = dtype == at::kDouble ? at::kDouble : at::kFloat;
  const std::lock_guard lock(mutex_);
  const at::Tensor& cos = cached_.cos_PH;
  const bool fits = cos.defined() && cos.size(0) >= num_positions && cos.device() == device &&
                    cos.scalar_type() == wide;
  if (!fits) {
    const at::NoGradGuard no_grad;
    std::int64_t room = 256;
    while (room < num_positions) room *= 2;
    cached_ = cosines(at::arange(room, at::kLong), inverse_frequencies(settings_, 0),
                      attention_factor(settings_), dtype);
    cached_.cos_PH = cached_.cos_PH.to(device);
    cached_.sin_PH = cached_.sin_PH.to(device);
  }
  return cached_;
}

// Dynamic scaling beyond the trained length: each segment has frequencies of its own length, so
// that packing changes nothing.
RotaryAngles RotaryTable::per_segment(const at::Tensor& positions_T,
                                      const std::vector<std::int64_t>& cu_seqlens,
                                      const std::vector<std::int64_t>& lengths,
                                      at::ScalarType dtype) const {
  const at::NoGradGuard no_grad;
  const at::Tensor positions = positions_T.to(at::kCPU);
  std::vector<at::Tensor> cos, sin;
  for (std::size_t i = 0; i + 1 < cu_seqlens.size(); ++i) {
    const at::Tensor segment =
        positions.narrow(0, cu_seqlens[i], cu_seqlens[i + 1] - cu_seqlens[i]);
    const RotaryAngles part = cosines(segment, inverse_frequencies(settings_, lengths[i]),
                                      attention_factor(settings_), dtype);
    cos.push_back(part.cos_PH);
    sin.push_back(part.sin_PH);
  }
  const at::Device device = positions_T.device();
  return {at::cat(cos).to(device), at::cat(sin).to(device),
          at::arange(positions_T.size(0), at::TensorOptions(at::kLong).device(device))};
}

}  // namespace gimbal
