// Memory of this process, and what training will need.
#pragma once

#include <cstdint>
#include <vector>

#include "gimbal/arch/model_desc.h"

namespace gimbal {

/// Bytes of main memory that the process holds now.
std::int64_t resident_bytes();
/// The most bytes of main memory that the process has held since its start or the last reset.
std::int64_t peak_resident_bytes();
void reset_peak_resident_bytes();

/// What decides the bytes that a rank holds.
struct MemorySetting {
  int master_bytes = 4;      // per value: parameters, gradients, moments
  int compute_bytes = 4;     // per value: activations, and a copy of the parameters if it differs
  std::vector<bool> frozen;  // per block: no gradients, no moments
  std::vector<Recompute> levels;        // per block
  std::int64_t loss_chunk_rows = 1024;  // rows of logits that exist at a time

  /// Per block: micro-batches whose activations the rank holds at a time (check_schedule); 0: the
  /// block is on another stage. Empty: 1 for all.
  std::vector<int> in_flight;
  // Ranks that share the rows of a pack, its products, and the state of parameters.
  int sp = 1, tp = 1, dp_shard = 1;
  bool reshard = false;  // weights are freed between uses and gradients kept as shards
};

struct MemoryEstimate {
  double parameter_bytes = 0;  // master values and, if any, the compute copy
  double gradient_bytes = 0;
  double optimizer_bytes = 0;  // AdamW's two moments
  double activation_bytes = 0;
  double total_bytes() const {
    return parameter_bytes + gradient_bytes + optimizer_bytes + activation_bytes;
  }
};

/// For one micro-batch of size `work`. Buffers of libraries and the data pipeline are not part of
/// it.
MemoryEstimate estimate_training_memory(const ModelDesc& model, const WorkSize& work,
                                        const MemorySetting& setting);

/// The most bytes of activations and their gradients that the tape holds: while the backward pass
/// of a block runs, what the blocks up to it have saved (saved_values), what is computed again
/// (recomputed_values) and gradients of activations; in a pipeline also what the other
/// micro-batches under way have saved. Blocks without backward hold nothing. Rows are shared by sp
/// x tp ranks.
double peak_activation_bytes(const ModelDesc& model, const WorkSize& work,
                             const MemorySetting& setting);

}  // namespace gimbal
