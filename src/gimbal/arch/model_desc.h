// A model as data: its blocks with parameters and floating-point work, without tensors.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace gimbal {

enum class BlockKind {
  kVisionEmbed,
  kVisionLayer,
  kProjector,
  kTextEmbed,
  kTextLayer,
  kTextNorm,
  kTextHead
};

/// Rows that a micro-batch brings: what every cost is a function of.
struct WorkSize {
  double text_rows = 0;
  double text_pairs = 0;  // sum over segments of rows^2
  double loss_rows = 0;   // rows that the head computes
  double vision_tiles = 0;
};

/// Forward work is `flops_per_row * rows + flops_per_pair * pairs`; a multiply-add counts 2. Causal
/// attention needs half of text_pairs: flops_per_pair contains that factor 1/2. Attention inside a
/// tile is part of flops_per_row.
struct BlockDesc {
  std::string name;
  BlockKind kind = BlockKind::kTextLayer;
  std::int64_t num_parameters = 0;
  double flops_per_row = 0;          // per text row, per loss row (head) or per tile (vision)
  double flops_per_pair = 0;         // text layers only
  double saved_values_per_row = 0;   // activation values kept for backward at recompute level keep
  double output_values_per_row = 0;  // values handed to the next block
};

struct ModelDesc {
  std::vector<BlockDesc> blocks;
  std::int64_t num_parameters() const;
};

/// The rows that the block works on: tiles, text rows or loss rows.
double work_rows(const BlockDesc& block, const WorkSize& work);

double forward_flops(const BlockDesc& block, const WorkSize& work);

/// Forward + backward of all blocks, without recompute (model FLOPs). Backward of a block is 2 x
/// forward: gradients of inputs and of weights. A frozen block (frozen[i]) has no weight gradient,
/// but both gradients of its attention products, which hold no weights. Frozen blocks before all
/// trainable ones have no backward.
double training_flops(const ModelDesc& model, const WorkSize& work,
                      const std::vector<bool>& frozen);

}  // namespace gimbal
