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

  struct Stage {
    std::size_t begin = 0, end = 0;  // of its blocks
  };
  int pp = 1;                 // ranks of the pipeline
  std::vector<Stage> stages;  // of the rank; empty: it has all blocks
  /// Micro-batches whose activations each of the stages holds, at the moments that count
  /// (schedule/in_flight.h, fullest_moments). Empty: one.
  std::vector<std::vector<int>> held;
  int micro_batches = 1;        // of the rank in a step
  bool split_backward = false;  // weight gradients are computed later
  // Ranks that share the rows of a pack, its products, and the state of parameters.
  int sp = 1, tp = 1, dp_shard = 1;
  bool reshard = false;  // weights are freed between uses and gradients kept as shards
  bool prefetch = true;  // with reshard: the next block's weights are gathered while one runs
};

struct MemoryEstimate {
  double parameter_bytes = 0;   // master values and, unless it is gathered, the compute copy
  double gradient_bytes = 0;    // of the step
  double optimizer_bytes = 0;   // AdamW's two moments
  double activation_bytes = 0;  // peak_activation_bytes
  double total_bytes() const {
    return parameter_bytes + gradient_bytes + optimizer_bytes + activation_bytes;
  }
};

/// For one micro-batch of size `work`. Buffers of libraries and the data pipeline are not part of
/// it.
MemoryEstimate estimate_training_memory(const ModelDesc& model, const WorkSize& work,
                                        const MemorySetting& setting);

/// The most bytes that a step holds beside parameters, gradients and optimizer state:
/// - while the backward pass of a block runs, what the blocks up to it have saved
///   (rank_saved_values), what is computed again, and gradients of activations; while a block runs
///   that has no backward, what it makes;
/// - what the other micro-batches under way have saved, and messages between stages;
/// - with dp_shard above 1, gathered weights and whole gradients until they are reduced.
double peak_activation_bytes(const ModelDesc& model, const WorkSize& work,
                             const MemorySetting& setting);

}  // namespace gimbal
