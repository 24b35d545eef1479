// Activation functions by their names in config.json.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>

namespace gimbal {

enum class Activation { kGelu, kGeluTanh, kQuickGelu, kSilu, kRelu };

/// transformers' names ("gelu", "gelu_pytorch_tanh", "gelu_new", "quick_gelu", "silu", "swish",
/// "relu"); nothing for others.
std::optional<Activation> find_activation(const std::string& name);
/// The names that find_activation knows, for messages.
std::string activation_names();

at::Tensor activate(Activation activation, const at::Tensor& x);

}  // namespace gimbal
