#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <deque>
#include <optional>

#include "gimbal/base/error.h"
#include "gimbal/parallel/store/flat_unit.h"
#include "gimbal/parallel/store/gradient_reducer.h"
#include "gimbal/parallel/store/store_units.h"
#include "gimbal/parallel/store/unit_gradients.h"
#include "gimbal/parallel/store/unit_values.h"

namespace gimbal {
namespace {

/// Announced blocks whose values may be gathered before they are opened.
constexpr std::size_t kBlocksAhead = 2;

/// What the store holds of a unit.
struct HeldUnit {
  UnitSpec spec;
  UnitLayout layout;
  Comm* replicas;  // ranks with the same shard
  UnitValues values;
  std::vector<at::Tensor> leaves;          // what the blocks see, in the order of layout.places
  std::optional<UnitGradients> gradients;  // empty: frozen
  int num_open = 0;
  int num_announced = 0;  // announced blocks that are not open yet and for which it is gathered
};

class ShardedStore : public ParameterStore {
 public:
  ShardedStore(const std::vector<std::unique_ptr<Block>>& blocks, const StoreSetup& setup)
      : setup_(setup),
        single_(make_single_comm(setup.device)),
        shard_(setup.shard != nullptr ? *setup.shard : *single_),
        reducer_(shard_) {
    GIMBAL_CHECK(setup.master == at::kFloat || setup.master == at::kDouble, "master dtype");
    StoreUnits units = make_store_units(blocks, setup.own_blocks);
    block_units_ = std::move(units.block_units);
    for (const auto& block : blocks) block_names_.push_back(block->name());
    for (UnitSpec& spec : units.units) add_unit(std::move(spec));
    finished_.assign(blocks.size(), false);
  }

  void begin_step() override {
    GIMBAL_CHECK(reducer_.is_idle(), "finish_reduce was not called in the last step");
    for (HeldUnit& unit : units_) {
      if (unit.gradients) unit.gradients->begin_step();
    }
    finished_.assign(finished_.size(), false);
    if (setup_.policy == StorePolicy::kKeepWeights && setup_.prefetch) gather_all();
  }

  void open(std::size_t block, bool backward) override {
    check_own(block);
    const bool was_gathered = forget_announced(block);
    for (const std::size_t i : block_units_[block]) units_[i].values.start();
    for (const std::size_t i : block_units_[block]) {
      HeldUnit& unit = units_[i];
      unit.values.wait();
      if (was_gathered) --unit.num_announced;
      if (unit.num_open++ == 0) bind(unit);
      if (backward && unit.gradients) unit.gradients->begin_backward();
    }
    gather_ahead();
  }

  void close(std::size_t block) override {
    for (const std::size_t i : block_units_.at(block)) {
      HeldUnit& unit = units_[i];
      GIMBAL_CHECK(unit.num_open > 0, "close of '", block_names_[block], "' without open");
      if (--unit.num_open > 0) continue;
      for (const UnitLayout::Place& place : unit.layout.places) place.parameter->value.reset();
      if (setup_.policy == StorePolicy::kReshard && unit.num_announced == 0) {
        unit.values.free_storage();
      }
    }
  }

  void open_gradients(std::size_t block) override {
    check_own(block);
    for (const std::size_t i : block_units_[block]) {
      if (units_[i].gradients) units_[i].gradients->begin_backward();
    }
  }

  void prefetch(std::size_t block) override {
    check_own(block);
    if (!setup_.prefetch || shard_.size() == 1) return;
    announced_.push_back({block, false});
    gather_ahead();
  }

  void finish_micro_batch(std::size_t block, bool last) override {
    check_own(block);
    GIMBAL_CHECK(!finished_[block], "'", block_names_[block], "' is finished twice");
    finished_[block] = last;
    reducer_.begin_block();
    for (const std::size_t i : block_units_[block]) {
      HeldUnit& unit = units_[i];
      if (!unit.gradients) continue;
      unit.gradients->collect();
      // With kReshard borrowers' parts go to the sum by themselves. With kKeepWeights the whole
      // gradient of a tied table lives from the head's backward to that of the embedding.
      reduce(unit, last && unit.spec.reducer == block);
      // The sum must not leave before all of it is there.
      GIMBAL_CHECK(unit.spec.reducer == block || !finished_[unit.spec.reducer], "'",
                   block_names_[unit.spec.reducer], "' is finished before '", block_names_[block],
                   "', which uses its parameters");
    }
  }

  void finish_reduce() override {
    for (std::size_t i = 0; i < finished_.size(); ++i) {
      GIMBAL_CHECK(finished_[i] || !is_own(i), "'", block_names_[i], "' was not finished");
    }
    reducer_.finish();
    exchange_tied();
    for (const HeldUnit& unit : units_) {
      GIMBAL_CHECK(!unit.gradients || unit.gradients->all_taken(), "a gradient of '",
                   unit.spec.name, "' came after the block was finished");
    }
  }

  std::vector<FlatShard>& shards() override { return shards_; }

  void values_changed() override {
    announced_.clear();
    for (HeldUnit& unit : units_) {
      GIMBAL_CHECK(unit.num_open == 0 || !unit.values.is_gathered(), "values of '", unit.spec.name,
                   "' changed while they are in use");
      unit.num_announced = 0;
      unit.values.mark_stale();
    }
  }

 private:
  struct Announced {
    std::size_t block;
    bool gathered;  // or under way
  };

  void add_unit(UnitSpec spec) {
    UnitLayout layout = make_unit_layout(spec.parameters, setup_.group_of, shard_.size(),
                                         unit_alignment(setup_.master, setup_.compute));
    const at::Tensor own = at::zeros(
        {layout.shard_numel()}, at::TensorOptions().dtype(setup_.master).device(setup_.device));
    UnitValues values(own, shard_, setup_.compute, "values of " + spec.name);
    std::vector<at::Tensor> leaves;
    for (const UnitLayout::Place& place : layout.places) {
      // variable_data: shares the storage but counts versions by itself, so that writing the flat
      // buffer does not count as writing a tensor that a graph has saved.
      leaves.push_back(view_of(values.flat(), place).variable_data());
      leaves.back().requires_grad_(spec.trainable);
    }
    values.free_storage();
    std::optional<UnitGradients> gradients;
    if (spec.trainable) gradients.emplace(layout, leaves, setup_.master);

    Comm* const given = spec.cut ? setup_.replicas : setup_.whole_replicas;
    Comm* const replicas = given != nullptr ? given : single_.get();
    for (FlatShard& shard : flat_shards(layout, shard_.rank(), block_names_[spec.owner], own,
                                        gradients ? gradients->sum() : at::Tensor())) {
      shard.num_replicas = replicas->size() * (spec.on_stages ? 2 : 1);
      shard.replica = replicas->rank() + (spec.is_copy ? replicas->size() : 0);
      shards_.push_back(std::move(shard));
    }
    GIMBAL_CHECK(!spec.on_stages || !spec.trainable || setup_.tied.comm != nullptr, "'", spec.name,
                 "' is trained on two stages that are not connected");
    units_.push_back({std::move(spec), std::move(layout), replicas, std::move(values),
                      std::move(leaves), std::move(gradients)});
  }

  bool is_own(std::size_t block) const {
    return setup_.own_blocks.empty() || setup_.own_blocks[block];
  }
  void check_own(std::size_t block) const {
    GIMBAL_CHECK(block < block_names_.size() && is_own(block), "block ", block,
                 " is not one of this rank's");
  }

  static void bind(HeldUnit& unit) {
    for (std::size_t i = 0; i < unit.leaves.size(); ++i) {
      unit.layout.places[i].parameter->value = unit.leaves[i];
    }
  }

  /// Returns whether its values are gathered or under way.
  bool forget_announced(std::size_t block) {
    const auto it = std::ranges::find(announced_, block, &Announced::block);
    if (it == announced_.end()) return false;
    const bool gathered = it->gathered;
    announced_.erase(it);
    return gathered;
  }

  /// Weights that are kept take no more memory when all are gathered at once, and a rank that falls
  /// behind by some blocks holds nobody up.
  void gather_all() {
    for (std::size_t block = 0; block < block_units_.size(); ++block) {
      if (!is_own(block)) continue;
      for (const std::size_t i : block_units_[block]) units_[i].values.start();
    }
  }

  void gather_ahead() {
    const std::size_t num_ahead = std::min(announced_.size(), kBlocksAhead);
    for (std::size_t k = 0; k < num_ahead; ++k) {
      if (announced_[k].gathered) continue;
      announced_[k].gathered = true;
      for (const std::size_t i : block_units_[announced_[k].block]) {
        ++units_[i].num_announced;
        units_[i].values.start();
      }
    }
  }

  void reduce(HeldUnit& unit, bool last) {
    UnitGradients& gradients = *unit.gradients;
    const bool is_sharded = shard_.size() > 1;
    if (!last && !(is_sharded && setup_.policy == StorePolicy::kReshard)) return;
    reducer_.add(gradients.sum(), is_sharded ? gradients.take_whole() : at::Tensor(),
                 *unit.replicas, last, "gradients of " + unit.spec.name);
  }

  /// Both stages add the same two numbers.
  void exchange_tied() {
    c10::NoGradGuard no_grad;
    for (HeldUnit& unit : units_) {
      if (!unit.spec.on_stages || !unit.gradients || unit.layout.numel == 0) continue;
      const at::Tensor& sum = unit.gradients->sum();
      const at::Tensor other = at::empty_like(sum);
      const std::string name = "gradients of " + unit.spec.name;
      const auto [comm, rank] = setup_.tied;
      std::unique_ptr<CommWork> first, second;
      // One side sends while the other receives, also where both wait for each other.
      if (unit.spec.is_copy) {
        first = comm->receive(other, rank, name);
        second = comm->send(sum, rank, name);
      } else {
        first = comm->send(sum, rank, name);
        second = comm->receive(other, rank, name);
      }
      first->wait();
      second->wait();
      sum.add_(other);
    }
  }

  StoreSetup setup_;
  std::unique_ptr<Comm> single_;  // for groups that are not given
  Comm& shard_;
  GradientReducer reducer_;
  std::vector<std::string> block_names_;
  std::vector<std::vector<std::size_t>> block_units_;
  std::vector<HeldUnit> units_;
  std::vector<FlatShard> shards_;
  std::vector<bool> finished_;  // per block, in this step
  std::deque<Announced> announced_;
};

}  // namespace

std::unique_ptr<ParameterStore> make_sharded_store(
    const std::vector<std::unique_ptr<Block>>& blocks, const StoreSetup& setup) {
  return std::make_unique<ShardedStore>(blocks, setup);
}

std::unique_ptr<ParameterStore> make_replicated_store(
    const std::vector<std::unique_ptr<Block>>& blocks, Comm& comm, at::ScalarType master,
    at::ScalarType compute, const at::Device& device, const GroupOf& group_of) {
  StoreSetup setup;
  setup.replicas = &comm;
  setup.whole_replicas = &comm;
  setup.master = master;
  setup.compute = compute;
  setup.device = device;
  setup.group_of = group_of;
  return make_sharded_store(blocks, setup);
}

}  // namespace gimbal
