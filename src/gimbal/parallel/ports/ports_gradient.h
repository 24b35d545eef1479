// Linear operations with a gradient of their own: exchanges between ranks.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>

namespace gimbal {

using TensorMap = std::function<at::Tensor(const at::Tensor&)>;

/// forward(x). Its gradient is backward(gradient of the result): nothing of x is kept.
/// `forward` runs once, at once; it returns a tensor of its own, not x.
at::Tensor with_gradient(const at::Tensor& x, const TensorMap& forward, TensorMap backward);

}  // namespace gimbal
