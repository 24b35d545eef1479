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

/// This rank's shard of one block's parameters (of one parameter group) flat in memory: what the
/// optimizer updates and checkpoints save. A block's frozen parameters have shards of their own,
/// without gradients. A rank may have no values of a block: n is 0 then, and there are no slices.
struct FlatShard {
  std::string block;
  int group = 0;         // optimizer parameter group
  at::Tensor values;     // [n] master dtype (float32, or float64 in float64 runs)
  at::Tensor gradients;  // [n] master dtype; valid after finish_reduce(); undefined when frozen
  struct Slice {
    ParameterPtr parameter;
    std::int64_t offset;     // in the shard
    std::int64_t begin = 0;  // of the parameter's values on this tensor-parallel rank, row-major
    std::int64_t numel = 0;
  };
  /// Where each piece of a parameter lies. Parameters begin at multiples of 64 bytes of the block's
  /// whole buffer; the values between parameters are zero and stay so.
  std::vector<Slice> slices;
  /// How many ranks hold the same values, and which of them this one is: number 0 counts in norms,
  /// and one of them writes checkpoints.
  int replica = 0;
  int num_replicas = 1;
};

/// Order of calls in a step, on all ranks of the mesh that share a block alike and independent of
/// the data:
///   begin_step, then per micro-batch open(block) .. close(block) forward, open .. close backward;
///   finish_micro_batch(block, last) after a block's backward; after the last micro-batch
///   finish_reduce; then the optimizer changes shards() and calls values_changed(). Where weight
///   gradients are put off, open_gradients(block) comes before them and finish_micro_batch after
///   them. A frozen block before all trainable ones has no backward: no open and close there,
///   finish_micro_batch all the same. Several micro-batches may be under way.
class ParameterStore {
 public:
  virtual ~ParameterStore() = default;
  /// Zeroes the gradients. Starts to gather all values that stay gathered (with prefetch).
  virtual void begin_step() = 0;
  /// Binds the block's parameters (owned and borrowed) to usable values. `backward`: gradients of
  /// all of them will be accumulated, so that their buffers are made. Those that come otherwise, as
  /// when most are put off, wait one by one until the buffers are there or the block is finished.
  virtual void open(std::size_t block, bool backward) = 0;
  virtual void close(std::size_t block) = 0;
  /// Makes the buffers of the block's gradients, for those that were put off. The values are
  /// neither gathered nor bound; nothing is communicated.
  virtual void open_gradients(std::size_t block) = 0;
  /// Says that `block` is opened next (after those already announced): its values are gathered
  /// meanwhile, of two announced blocks at a time. Without it, open() gathers and waits.
  virtual void prefetch(std::size_t block) = 0;
  /// Adds the block's gradients of this micro-batch to the step's; when `last`, starts their
  /// reduction (a sum over the ranks). A block is finished after those that borrow from it.
  virtual void finish_micro_batch(std::size_t block, bool last) = 0;
  /// Waits for all reductions.
  virtual void finish_reduce() = 0;
  virtual std::vector<FlatShard>& shards() = 0;
  /// The optimizer or a loader changed the shards' values: computed copies are stale.
  virtual void values_changed() = 0;
};

/// Gives the optimizer group of a parameter.
using GroupOf = std::function<int(const Parameter&)>;

/// What parameters do when no block uses them; cost/cost_model.h has the same two.
enum class StorePolicy {
  kReshard,     // FSDP: gathered before each use, freed after; gradients reduced in each backward
  kKeepWeights  // gathered once per step; gradients added up whole and reduced once
};

/// Exchanges the gradient of a parameter that two pipeline stages hold (tied embeddings).
struct TiedStages {
  Comm* comm = nullptr;  // pipeline group
  int other = -1;        // the other stage's rank in it
};

struct StoreSetup {
  /// Which blocks this rank's stages have; empty: all. Others must never be opened.
  std::vector<bool> own_blocks;
  // A group that is not given is that of this rank alone.
  Comm* shard = nullptr;           // dp_shard
  Comm* replicas = nullptr;        // ranks with the same shards, for parameters cut over tp
  Comm* whole_replicas = nullptr;  // the same and the tp ranks, for parameters that are whole
  StorePolicy policy = StorePolicy::kKeepWeights;
  bool prefetch = true;
  at::ScalarType master = at::kFloat;   // of values and gradients: float32 or float64
  at::ScalarType compute = at::kFloat;  // that blocks see
  at::Device device = at::kCPU;
  GroupOf group_of;
  /// When one of this rank's blocks borrows a parameter that another stage owns, or owns one that
  /// another stage borrows: both hold a copy, and their gradients are added.
  TiedStages tied;
};

/// Per block one flat buffer for the parameters cut over tp and one for the whole ones, cut evenly
/// over setup.shard: each rank has the values, the gradients and the optimizer state of its shard.
/// Gradients are summed in the master dtype over shard (reduce-scatter) and the replicas
/// (all-reduce), block by block as backward passes them, beside the backward of the blocks before.
/// With one shard nothing is gathered and blocks see the values themselves (or a compute copy).
/// Frozen parameters have no gradients and no reduction. Values start as zeros: fill the shards,
/// then call values_changed(). The comms must outlive the store.
std::unique_ptr<ParameterStore> make_sharded_store(
    const std::vector<std::unique_ptr<Block>>& blocks, const StoreSetup& setup);

/// make_sharded_store with one shard, all blocks and `comm` as replicas.
std::unique_ptr<ParameterStore> make_replicated_store(
    const std::vector<std::unique_ptr<Block>>& blocks, Comm& comm, at::ScalarType master,
    at::ScalarType compute, const at::Device& device, const GroupOf& group_of);

}  // namespace gimbal
