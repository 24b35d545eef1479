// Batches of given sizes with random content.
#pragma once

#include <cstdint>

#include "gimbal/models/model.h"
#include "gimbal/profile/pack_shapes.h"
#include "gimbal/tensor/batch.h"

namespace gimbal {

/// A batch with the sizes of `pack` for `model`: random tokens and pixels, each sample's pictures
/// before its text, its loss tokens at its end. A function of the arguments. On the CPU.
Batch synthetic_batch(const PackShape& pack, const Model& model, std::uint64_t seed);

}  // namespace gimbal
