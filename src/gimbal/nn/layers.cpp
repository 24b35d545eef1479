#include "gimbal/nn/layers.h"

#include <ATen/ops/layer_norm.h>

#include "gimbal/nn/gemm.h"
#include "gimbal/nn/rms_norm.h"

namespace gimbal {

Linear::Linear(ParameterList& list, const std::string& name, std::int64_t in, std::int64_t out,
               bool bias, double deviation)
    : weight_(list.add(name + ".weight", {out, in}, normal_init(deviation))),
      bias_(bias ? list.add(name + ".bias", {out}, constant_init(0)) : nullptr) {}

at::Tensor Linear::operator()(const at::Tensor& x) const {
  return apply_linear(x, weight_->value, bias_ ? std::make_optional(bias_->value) : std::nullopt);
}

RmsNorm::RmsNorm(ParameterList& list, const std::string& name, std::int64_t width, double eps)
    : weight_(list.add(name + ".weight", {width}, constant_init(1))), eps_(eps) {}

at::Tensor RmsNorm::operator()(const at::Tensor& x) const {
  return rms_norm(x, weight_->value, eps_);
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
