#include "gimbal/nn/ops/activation.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/silu.h>

#include <array>
#include <utility>

#include "gimbal/base/error.h"

namespace gimbal {
namespace {

constexpr std::array<std::pair<const char*, Activation>, 7> kActivationNames{{
    {"gelu", Activation::kGelu},
    {"gelu_pytorch_tanh", Activation::kGeluTanh},
    {"gelu_new", Activation::kGeluTanh},
    {"quick_gelu", Activation::kQuickGelu},
    {"silu", Activation::kSilu},
    {"swish", Activation::kSilu},
    {"relu", Activation::kRelu},
}};

}  // namespace

std::optional<Activation> find_activation(const std::string& name) {
  for (const auto& [known, activation] : kActivationNames)
    if (name == known) return activation;
  return std::nullopt;
}

std::string activation_names() {
  std::string names;
  for (const auto& [known, activation] : kActivationNames)
    names += (names.empty() ? "" : ", ") + std::string(known);
  return names;
}

at::Tensor activate(Activation activation, const at::Tensor& x) {
  switch (activation) {
    case Activation::kGelu:
      return at::gelu(x, "none");
    case Activation::kGeluTanh:
      return at::gelu(x, "tanh");
    case Activation::kQuickGelu:
      return x * at::sigmoid(x * 1.702);
    case Activation::kSilu:
      return at::silu(x);
    case Activation::kRelu:
      return at::relu(x);
  }
  throw_internal(__FILE__, __LINE__, "activation", "unknown activation");
}

}  // namespace gimbal
