// Parameter stores: where parameters, gradients and optimizer inputs live, and when they are
// usable.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "gimbal/models/block.h"
#include "gimbal/parallel/comm.h"

namespace gimbal {

/// One block's parameters (of one parameter group) flat in memory: what the optimizer updates and
/// checkpoints save. A block's frozen parameters have shards of their own, without gradients.
struct FlatShard {
  std::string block;
  int group = 0;         // optimizer parameter group
  at::Tensor values;     // [n] master dtype (float32, or float64 in float64 runs)
  at::Tensor gradients;  // [n] master dtype; valid after finish_reduce(); undefined when frozen
  struct Slice {
    ParameterPtr parameter;
    std::int64_t offset;
  };
  /// Where each parameter lies: its numel() values from `offset`. Offsets are multiples of 64
  /// bytes; the values between parameters are zero and stay so.
  std::vector<Slice> slices;
};

/// Order of calls in a step, on all ranks alike and independent of the data:
///   begin_step, then per micro-batch open(block) .. close(block) forward, open .. close backward;
///   finish_micro_batch(block, last) after a block's backward, from the last block to the first;
///   after the last micro-batch finish_reduce; then the optimizer changes shards() and calls
///   values_changed(). A frozen block before all trainable ones has no backward: no open and close
///   there, finish_micro_batch all the same.
class ParameterStore {
 public:
  virtual ~ParameterStore() = default;
  /// Zeroes the gradients.
  virtual void begin_step() = 0;
  /// Binds the block's parameters (owned and borrowed) to usable values. `backward`: gradients will
  /// be accumulated.
  virtual void open(std::size_t block, bool backward) = 0;
  virtual void close(std::size_t block) = 0;
  /// Adds the block's gradients of this micro-batch to the step's; when `last`, starts their
  /// reduction (a sum over the ranks).
  virtual void finish_micro_batch(std::size_t block, bool last) = 0;
  /// Waits for all reductions.
  virtual void finish_reduce() = 0;
  virtual std::vector<FlatShard>& shards() = 0;
  /// The optimizer or a loader changed the shards' values: computed copies are stale.
  virtual void values_changed() = 0;
};

/// Gives the optimizer group of a parameter.
using GroupOf = std::function<int(const Parameter&)>;

/// Every rank holds all parameters; gradients are all-reduced per block in a fixed order,
/// overlapped with the backward pass of the blocks before. `master`: dtype of values and gradients
/// (float32 or float64); `compute`: dtype that blocks see. Frozen parameters have a shard without
/// gradients and take part in no reduction. A tied parameter is reduced with the block that owns
/// it, which must come after all borrowers in backward order. Values start as zeros: fill the
/// shards, then call values_changed(). `comm` must outlive the store.
std::unique_ptr<ParameterStore> make_replicated_store(
    const std::vector<std::unique_ptr<Block>>& blocks, Comm& comm, at::ScalarType master,
    at::ScalarType compute, const at::Device& device, const GroupOf& group_of);

}  // namespace gimbal
