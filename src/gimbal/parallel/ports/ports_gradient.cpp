#include "gimbal/parallel/ports/ports_gradient.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

namespace gimbal {
namespace {

// Keeps the closure with the graph's node.
struct BackwardMap : torch::CustomClassHolder {
  explicit BackwardMap(TensorMap map) : run(std::move(map)) {}
  TensorMap run;
};

class LinearMapFunction : public torch::autograd::Function<LinearMapFunction> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x,
                            const TensorMap& map, const c10::intrusive_ptr<BackwardMap>& backward) {
    const at::AutoDispatchBelowADInplaceOrView below;
    context->saved_data["backward"] = c10::IValue::make_capsule(backward);
    return map(x);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list grads) {
    const auto map = c10::static_intrusive_pointer_cast<BackwardMap>(
        context->saved_data["backward"].toCapsule());
    return {map->run(grads[0]), {}, {}};
  }
};

}  // namespace

at::Tensor with_gradient(const at::Tensor& x, const TensorMap& forward, TensorMap backward) {
  if (!at::GradMode::is_enabled() || !x.requires_grad()) return forward(x);
  return LinearMapFunction::apply(x, forward,
                                  c10::make_intrusive<BackwardMap>(std::move(backward)));
}

}  // namespace gimbal
