#include "gimbal/nn/layers.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/rsqrt.h>

#include "gimbal/base/error.h"
#include "gimbal/nn/ops/gemm.h"
#include "gimbal/nn/ops/rms_norm.h"

namespace gimbal {
namespace {

bool is_alone(const LinearComm& ranks) { return ranks.units(0).parts() == 1; }

// The rows of a weight, or the values of a bias, that belong to the heads.
at::Tensor rows_of_heads(const at::Tensor& w, const std::vector<std::int64_t>& heads,
                         std::int64_t head_dim) {
  std::vector<at::Tensor> rows;
  for (const std::int64_t head : heads) rows.push_back(w.narrow(0, head * head_dim, head_dim));
  return rows.size() == 1 ? rows[0] : at::cat(rows);
}

}  // namespace

Linear::Linear(ParameterList& list, const std::string& name, std::int64_t in, std::int64_t out,
               bool bias, double deviation)
    : weight_(list.add(name + ".weight", {out, in}, normal_init(deviation))),
      bias_(bias ? list.add(name + ".bias", {out}, constant_init(0)) : nullptr) {}

at::Tensor Linear::operator()(const at::Tensor& x) const {
  return apply_linear(x, *weight_, bias_.get());
}

at::Tensor Linear::outputs_of_heads(const at::Tensor& x, const std::vector<std::int64_t>& heads,
                                    std::int64_t head_dim) const {
  const auto bias =
      bias_ ? std::make_optional(rows_of_heads(bias_->value, heads, head_dim)) : std::nullopt;
  return apply_linear(x, rows_of_heads(weight_->value, heads, head_dim), bias);
}

RowLinear::RowLinear(ParameterList& list, const std::string& name, std::int64_t in,
                     std::int64_t out, bool bias, double deviation,
                     std::shared_ptr<const LinearComm> ranks)
    : weight_(list.add(name + ".weight", {out, in}, normal_init(deviation))),
      bias_(bias ? list.add(name + ".bias", {out}, constant_init(0)) : nullptr),
      ranks_(std::move(ranks)),
      alone_(is_alone(*ranks_)) {}

at::Tensor RowLinear::operator()(const at::Tensor& x, const RowSplit& rows) const {
  if (alone_) return apply_linear(x, *weight_, bias_.get());
  const at::Tensor y = ranks_->scatter_sum_rows(apply_linear(x, *weight_, nullptr), rows);
  return bias_ ? y + bias_->value : y;
}

RmsNorm::RmsNorm(ParameterList& list, const std::string& name, std::int64_t width, double eps)
    : weight_(list.add(name + ".weight", {width}, constant_init(1))), eps_(eps) {}

at::Tensor RmsNorm::operator()(const at::Tensor& x) const {
  return rms_norm(x, weight_->value, eps_);
}

SplitRmsNorm::SplitRmsNorm(ParameterList& list, const std::string& name, std::int64_t width,
                           double eps, std::shared_ptr<const LinearComm> ranks)
    : weight_(list.add(name + ".weight", {width}, constant_init(1))),
      width_(width),
      eps_(eps),
      ranks_(std::move(ranks)),
      alone_(is_alone(*ranks_)) {}

at::Tensor SplitRmsNorm::operator()(const at::Tensor& x_sD) const {
  if (alone_) return rms_norm(x_sD, weight_->value, eps_);
  const at::ScalarType wide = x_sD.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const at::Tensor v = x_sD.to(wide);
  const at::Tensor mean_s1 = ranks_->sum((v * v).sum({-1}, true)) / static_cast<double>(width_);
  return (v * at::rsqrt(mean_s1 + eps_)).to(x_sD.scalar_type()) * weight_->value;
}

LayerNorm::LayerNorm(ParameterList& list, const std::string& name, std::int64_t width, double eps)
    : weight_(list.add(name + ".weight", {width}, constant_init(1))),
      bias_(list.add(name + ".bias", {width}, constant_init(0))),
      width_(width),
      eps_(eps) {}

at::Tensor LayerNorm::operator()(const at::Tensor& x) const {
  return at::layer_norm(x, {width_}, weight_->value, bias_->value, eps_);
}

}  // namespace gimbal
