// Blocks' times and bytes over packs of many sizes, from repeated passes of the whole model.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "gimbal/arch/model_desc.h"
#include "gimbal/cost/profile_table.h"
#include "gimbal/profile/pack_shapes.h"
#include "gimbal/tensor/batch.h"

namespace gimbal {

/// What a forward and backward pass of one pack costs in one block.
struct BlockPass {
  double forward_seconds = 0;
  double backward_seconds = 0;     // without recompute
  double recompute_seconds = 0;    // running parts again during backward
  double saved_bytes = 0;          // alive after the block's forward pass minus before
  double forward_peak_bytes = 0;   // at most during forward, above what is alive after it
  double backward_peak_bytes = 0;  // at most during backward, above what was alive after forward
};

/// How a pass is run: all blocks at one recompute level, or with weights that need no gradients.
enum class PassMode { kKeep, kAttention, kMlp, kFull, kInputGradients };
inline constexpr std::size_t kNumPassModes = 5;  // the first are those of Recompute, in its order

/// Runs passes under the conditions of training.
class PassRunner {
 public:
  virtual ~PassRunner() = default;
  /// One entry per block of the model.
  virtual std::vector<BlockPass> run(const Batch& batch, PassMode mode) = 0;
};

/// One pack's costs, one entry per block. Times are lower quartiles over the rounds, scaled so that
/// their sum is the median of the whole pass; bytes are the largest of all rounds.
struct PackCosts {
  WorkSize work;
  std::array<std::vector<BlockPass>, kNumPassModes> modes;  // indexed by PassMode
};

struct MeasureOptions {
  double seconds = 30;  // stop after the first whole round behind this, but not before two
  int max_rounds = 40;
  std::uint64_t seed = 0;
  /// Called after each pass with the share that is done.
  std::function<void(double)> progress;
};

struct BlockMeasurements {
  std::vector<PackCosts> packs;
  int rounds = 0;
  double seconds = 0;
  std::int64_t dropped_tokens = 0;  // of the smallest pack that was too large for the time; 0: none
};

/// Runs every pack in every mode, in rounds with the packs in a random order, so that disturbances
/// from outside spread over all. The largest packs are left out when two rounds would take longer
/// than the given seconds.
BlockMeasurements measure_blocks(PassRunner& runner, std::vector<PackShape> packs,
                                 const std::function<Batch(const PackShape&)>& make_batch,
                                 const MeasureOptions& options);

/// Fits the costs of each class of the model's blocks. Blocks of a class count by their mean;
/// packs without rows of a class do not count for it. `value_bytes`: of an activation.
///
/// The head computes all its gradients in forward. `forward` is that of a frozen head
/// (PassMode::kInputGradients), and what a trained one adds to it is in `backward_weight`: the sum
/// over forward and backward is right for both, though a trained head spends less of it in backward
/// than said. The weight of a head that is tied to the model's first block is trained in that mode,
/// too: its gradient stays in `forward`, which is too much when both are frozen.
std::map<std::string, BlockCost> fit_blocks(const ModelDesc& model,
                                            const std::vector<PackCosts>& packs, int value_bytes);

/// The q-quantile (0 to 1) of the values, which must not be empty, with linear interpolation.
double quantile(std::vector<double> values, double q);

}  // namespace gimbal
