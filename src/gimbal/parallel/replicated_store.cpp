#include <ATen/TensorOperators.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>

#include <map>
#include <optional>

#include "gimbal/base/error.h"
#include "gimbal/parallel/store.h"

namespace gimbal {
namespace {

constexpr std::int64_t kAlignBytes = 64;

/// Rounds up, so that every parameter starts on its own cache line: vector loads are aligned and
/// matrix products give the same bits wherever the parameter lies.
std::int64_t aligned_numel(std::int64_t numel, at::ScalarType dtype) {
  const std::int64_t step = kAlignBytes / static_cast<std::int64_t>(c10::elementSize(dtype));
  return (numel + step - 1) / step * step;
}

/// A parameter's place in the store.
struct Entry {
  ParameterPtr parameter;
  std::size_t owner = 0;  // block
  std::size_t shard = 0;
  at::Tensor leaf;      // what the blocks see
  at::Tensor gradient;  // view of the flat gradients, undefined when frozen
  int num_open = 0;
};

/// A block's part of the store.
struct BlockState {
  std::string name;
  std::vector<std::size_t> entries;  // owned, then borrowed
  std::vector<std::size_t> shards;   // that the block needs: owned, then those of borrowed ones
  at::Tensor gradients;  // of all shards of the block, flat; undefined: nothing to train
};

class ReplicatedStore : public ParameterStore {
 public:
  ReplicatedStore(const std::vector<std::unique_ptr<Block>>& blocks, Comm& comm,
                  at::ScalarType master, at::ScalarType compute, const at::Device& device,
                  const GroupOf& group_of)
      : comm_(comm), master_(master), compute_(compute), device_(device) {
    GIMBAL_CHECK(master == at::kFloat || master == at::kDouble, "master dtype");
    for (const auto& block : blocks) add_block(*block, group_of);
    for (std::size_t i = 0; i < blocks.size(); ++i) add_borrowed(*blocks[i], i);
    stale_.assign(shards_.size(), true);
  }

  void begin_step() override {
    GIMBAL_CHECK(works_.empty(), "finish_reduce was not called in the last step");
    for (BlockState& block : blocks_) {
      if (block.gradients.defined()) block.gradients.zero_();
    }
    last_finished_.reset();
  }

  void open(std::size_t block, bool /*backward*/) override {
    for (const std::size_t shard : blocks_.at(block).shards) refresh(shard);
    for (const std::size_t i : blocks_[block].entries) {
      Entry& entry = entries_[i];
      if (entry.num_open++ == 0) entry.parameter->value = entry.leaf;
    }
  }

  void close(std::size_t block) override {
    for (const std::size_t i : blocks_.at(block).entries) {
      Entry& entry = entries_[i];
      GIMBAL_CHECK(entry.num_open > 0, "close of '", blocks_[block].name, "' without open");
      if (--entry.num_open == 0) entry.parameter->value.reset();
    }
  }

  void finish_micro_batch(std::size_t block, bool last) override {
    BlockState& state = blocks_.at(block);
    if (compute_ != master_) add_compute_gradients(state);
    if (!last) return;
    // The order of collectives is the same on all ranks only if it is this one.
    GIMBAL_CHECK(!last_finished_ || block < *last_finished_, "'", state.name,
                 "' is reduced out of order");
    last_finished_ = block;
    if (state.gradients.defined() && comm_.size() > 1) {
      works_.push_back(comm_.all_reduce_sum(state.gradients, "gradients of " + state.name));
    }
  }

  void finish_reduce() override {
    GIMBAL_CHECK(last_finished_ == std::size_t{0}, "not all blocks were finished");
    for (const auto& work : works_) work->wait();
    works_.clear();
  }

  std::vector<FlatShard>& shards() override { return shards_; }

  void values_changed() override { stale_.assign(shards_.size(), true); }

 private:
  void add_block(const Block& block, const GroupOf& group_of) {
    // Trainable shards first, each kind in the order of groups.
    std::map<std::pair<bool, int>, std::vector<ParameterPtr>> kinds;
    for (const ParameterPtr& parameter : block.parameters()) {
      kinds[{!parameter->trainable, group_of(*parameter)}].push_back(parameter);
    }
    BlockState state;
    state.name = block.name();
    const std::size_t first_entry = entries_.size();
    std::int64_t trainable_numel = 0;
    for (const auto& [kind, parameters] : kinds) {
      const bool frozen = kind.first;
      const std::int64_t numel = add_shard(block.name(), kind.second, parameters);
      state.shards.push_back(shards_.size() - 1);
      if (!frozen) trainable_numel += numel;
    }
    if (trainable_numel > 0) {
      state.gradients = at::zeros({trainable_numel}, options(master_));
      std::int64_t offset = 0;
      for (const std::size_t shard : state.shards) {
        if (!shards_[shard].slices.front().parameter->trainable) continue;
        const std::int64_t numel = shards_[shard].values.numel();
        shards_[shard].gradients = state.gradients.narrow(0, offset, numel);
        offset += numel;
      }
    }
    for (std::size_t i = first_entry; i < entries_.size(); ++i) {
      bind_gradient(entries_[i]);
      state.entries.push_back(i);
    }
    blocks_.push_back(std::move(state));
  }

  /// Returns the number of values.
  std::int64_t add_shard(const std::string& block, int group,
                         const std::vector<ParameterPtr>& parameters) {
    FlatShard shard;
    shard.block = block;
    shard.group = group;
    std::int64_t numel = 0;
    for (const ParameterPtr& parameter : parameters) {
      shard.slices.push_back({parameter, numel});
      numel += aligned_numel(parameter->numel(), master_);
    }
    shard.values = at::zeros({numel}, options(master_));
    compute_values_.push_back(compute_ == master_ ? shard.values
                                                  : at::zeros({numel}, options(compute_)));
    for (const auto& slice : shard.slices) {
      Entry entry;
      entry.parameter = slice.parameter;
      entry.owner = blocks_.size();
      entry.shard = shards_.size();
      // variable_data: shares the storage but counts versions by itself, so that writing the flat
      // buffer does not count as writing a tensor that a graph has saved.
      entry.leaf = view_of(compute_values_.back(), slice).variable_data();
      entry.leaf.requires_grad_(slice.parameter->trainable);
      const bool is_new = index_.emplace(slice.parameter.get(), entries_.size()).second;
      GIMBAL_CHECK(is_new, "'", slice.parameter->name, "' is owned twice");
      entries_.push_back(std::move(entry));
    }
    shards_.push_back(std::move(shard));
    return numel;
  }

  void bind_gradient(Entry& entry) {
    const FlatShard& shard = shards_[entry.shard];
    if (!shard.gradients.defined()) return;
    for (const auto& slice : shard.slices) {
      if (slice.parameter == entry.parameter) entry.gradient = view_of(shard.gradients, slice);
    }
    // Autograd adds to a gradient that is there already: straight into the flat buffer.
    if (compute_ == master_) entry.leaf.mutable_grad() = entry.gradient;
  }

  void add_borrowed(const Block& block, std::size_t borrower) {
    for (const ParameterPtr& parameter : block.borrowed()) {
      const auto it = index_.find(parameter.get());
      GIMBAL_CHECK(it != index_.end(), "'", block.name(), "' borrows '", parameter->name,
                   "', which no block owns");
      const Entry& entry = entries_[it->second];
      GIMBAL_CHECK(entry.owner < borrower, "'", block.name(), "' borrows '", parameter->name,
                   "' from a later block: it would be reduced before its gradient is complete");
      blocks_[borrower].entries.push_back(it->second);
      blocks_[borrower].shards.push_back(entry.shard);
    }
  }

  /// Compute copies are made when first needed after a change.
  void refresh(std::size_t shard) {
    if (compute_ == master_ || !stale_[shard]) return;
    compute_values_[shard].copy_(shards_[shard].values);
    stale_[shard] = false;
  }

  /// Gradients of the compute dtype are summed in the master dtype.
  void add_compute_gradients(const BlockState& state) {
    c10::NoGradGuard no_grad;
    for (const std::size_t i : state.entries) {
      Entry& entry = entries_[i];
      at::Tensor& gradient = entry.leaf.mutable_grad();
      if (!gradient.defined()) continue;
      entry.gradient.add_(gradient);
      gradient.reset();
    }
  }

  at::Tensor view_of(const at::Tensor& flat, const FlatShard::Slice& slice) const {
    return flat.narrow(0, slice.offset, slice.parameter->numel()).view(slice.parameter->shape);
  }

  at::TensorOptions options(at::ScalarType dtype) const {
    return at::TensorOptions().dtype(dtype).device(device_);
  }

  Comm& comm_;
  at::ScalarType master_;
  at::ScalarType compute_;
  at::Device device_;
  std::vector<FlatShard> shards_;
  std::vector<at::Tensor>
      compute_values_;       // per shard; the shard's values when the dtypes are equal
  std::vector<bool> stale_;  // per shard
  std::vector<Entry> entries_;
  std::map<const Parameter*, std::size_t> index_;  // into entries_
  std::vector<BlockState> blocks_;
  std::vector<std::unique_ptr<CommWork>> works_;
  std::optional<std::size_t> last_finished_;
};

}  // namespace

std::unique_ptr<ParameterStore> make_replicated_store(
    const std::vector<std::unique_ptr<Block>>& blocks, Comm& comm, at::ScalarType master,
    at::ScalarType compute, const at::Device& device, const GroupOf& group_of) {
  return std::make_unique<ReplicatedStore>(blocks, comm, master, compute, device, group_of);
}

}  // namespace gimbal
