// Layers: parameters with the operation that uses them. Parameters may be cut over tensor-parallel
// ranks (the models' layout tables). Shapes: t rows of this rank, s rows of its sequence part, D
// width, F output width; their cut over the ranks keeps the letter.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "gimbal/nn/parameter.h"
#include "gimbal/nn/ports.h"

namespace gimbal {

inline Init normal_init(double deviation) { return {Init::Kind::kNormal, deviation}; }
inline Init constant_init(double value) { return {Init::Kind::kConstant, value}; }

/// y = x w^T + b over the last dim. With rows of w on several ranks, each has columns of y.
class Linear {
 public:
  /// Adds `name`.weight [out, in] and, with `bias`, `name`.bias [out].
  Linear(ParameterList& list, const std::string& name, std::int64_t in, std::int64_t out, bool bias,
         double deviation);
  at::Tensor operator()(const at::Tensor& x) const;
  /// Only the outputs of some heads of `head_dim` outputs each, in this order; a head may come
  /// twice.
  at::Tensor outputs_of_heads(const at::Tensor& x, const std::vector<std::int64_t>& heads,
                              std::int64_t head_dim) const;

 private:
  ParameterPtr weight_, bias_;
};

/// y = x w^T + b where each rank has columns of w and of x: the products are summed over the ranks,
/// and each keeps its rows of the sum.
class RowLinear {
 public:
  /// Parameters as those of Linear. The bias is whole on every rank.
  RowLinear(ParameterList& list, const std::string& name, std::int64_t in, std::int64_t out,
            bool bias, double deviation, std::shared_ptr<const LinearComm> ranks);
  /// [s, in of this rank] -> [t, out]; `rows` is the cut of the rows.
  at::Tensor operator()(const at::Tensor& x, const RowSplit& rows) const;

 private:
  ParameterPtr weight_, bias_;
  std::shared_ptr<const LinearComm> ranks_;
  bool alone_;
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

/// RmsNorm over a width of which each tensor-parallel rank has a part.
class SplitRmsNorm {
 public:
  /// `width`: of all ranks.
  SplitRmsNorm(ParameterList& list, const std::string& name, std::int64_t width, double eps,
               std::shared_ptr<const LinearComm> ranks);
  at::Tensor operator()(const at::Tensor& x_sD) const;

 private:
  ParameterPtr weight_;
  std::int64_t width_;
  double eps_;
  std::shared_ptr<const LinearComm> ranks_;
  bool alone_;
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
