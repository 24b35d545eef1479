// One AdamW update of tensors: together, or in chunks with the moments elsewhere.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "gimbal/optim/adamw.h"

namespace gimbal {

/// What one call updates: flat tensors of the same place in each list.
struct AdamWTensors {
  std::vector<at::Tensor> values, gradients, first_moments, second_moments;
};

/// In one call of the fused kernel. All on one device, of one dtype, none empty.
void update_together(const AdamWTensors& tensors, std::int64_t step, const GroupRates& rates,
                     const AdamWOptions& options);

/// The moments are copied to the values' device, updated and copied back, `chunk` values at a time:
/// 2 * chunk values more on the device. Copies and updates follow each other on the current stream.
/// The same bits as update_together when `chunk` is a multiple of 16.
void update_in_chunks(const AdamWTensors& tensors, std::int64_t step, const GroupRates& rates,
                      const AdamWOptions& options, std::int64_t chunk);

}  // namespace gimbal
