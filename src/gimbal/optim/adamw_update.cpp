#include "gimbal/optim/adamw_update.h"

#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <c10/core/GradMode.h>

#include <algorithm>

namespace gimbal {

void update_together(const AdamWTensors& tensors, std::int64_t step, const GroupRates& rates,
                     const AdamWOptions& options) {
  if (tensors.values.empty()) return;
  c10::NoGradGuard no_grad;
  // The kernel reads the step from the device; it takes float32 for every dtype.
  const at::Tensor step_count =
      at::full({}, static_cast<double>(step), tensors.values.front().options().dtype(at::kFloat));
  const std::vector<at::Tensor> steps(tensors.values.size(), step_count);
  at::_fused_adamw_(tensors.values, tensors.gradients, tensors.first_moments,
                    tensors.second_moments, {}, steps, rates.lr, options.beta1, options.beta2,
                    rates.weight_decay, options.eps, /*amsgrad=*/false, /*maximize=*/false);
}

void update_in_chunks(const AdamWTensors& tensors, std::int64_t step, const GroupRates& rates,
                      const AdamWOptions& options, std::int64_t chunk) {
  c10::NoGradGuard no_grad;
  for (std::size_t i = 0; i < tensors.values.size(); ++i) {
    const at::Tensor& values = tensors.values[i];
    for (std::int64_t begin = 0; begin < values.numel(); begin += chunk) {
      const std::int64_t numel = std::min(chunk, values.numel() - begin);
      at::Tensor first_at_home = tensors.first_moments[i].narrow(0, begin, numel);
      at::Tensor second_at_home = tensors.second_moments[i].narrow(0, begin, numel);
      // Freed before the update has run, on CUDA: the allocator hands the memory to later work of
      // the same stream.
      at::Tensor first = at::empty({numel}, values.options());
      at::Tensor second = at::empty({numel}, values.options());
      first.copy_(first_at_home, /*non_blocking=*/true);
      second.copy_(second_at_home, /*non_blocking=*/true);
      update_together({{values.narrow(0, begin, numel)},
                       {tensors.gradients[i].narrow(0, begin, numel)},
                       {first},
                       {second}},
                      step, rates, options);
      first_at_home.copy_(first, /*non_blocking=*/true);
      second_at_home.copy_(second, /*non_blocking=*/true);
    }
  }
}

}  // namespace gimbal
