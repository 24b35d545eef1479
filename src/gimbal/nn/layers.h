// Layers: parameters with the operation that uses them. Shapes: D width, F output width.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

#include "gimbal/nn/parameter.h"

namespace gimbal {

inline Init normal_init(double deviation) { return {Init::Kind::kNormal, deviation}; }
inline Init constant_init(double value) { return {Init::Kind::kConstant, value}; }

/// y = x w^T + b over the last dim.
class Linear {
 public:
  /// Adds `name`.weight [out, in] and, with `bias`, `name`.bias [out].
  Linear(ParameterList& list, const std::string& name, std::int64_t in, std::int64_t out, bool bias,
         double deviation);
  at::Tensor operator()(const at::Tensor& x) const;

 private:
  ParameterPtr weight_, bias_;
};

/// Root mean square norm over the last dim (Zhang and Sennrich 2019), computed in float32 for
/// narrower dtypes.
class RmsNorm {
 public:
  RmsNorm(ParameterList& list, const std::string& name, std::int64_t width, double eps);
  at::Tensor operator()(const at::Tensor& x) const;

 private:
  ParameterPtr weight_;
  double eps_;
};

class LayerNorm {
 public:
  LayerNorm(ParameterList& list, const std::string& name, std::int64_t width, double eps);
  at::Tensor operator()(const at::Tensor& x) const;

 private:
  ParameterPtr weight_, bias_;
  std::int64_t width_;
  double eps_;
};

}  // namespace gimbal
