#include "gimbal/parallel/store/store_units.h"

#include <algorithm>
#include <map>

#include "gimbal/base/error.h"

namespace gimbal {
namespace {

/// Who uses a parameter.
struct ParameterUse {
  std::size_t owner = 0;
  std::vector<std::size_t> borrowers;  // ascending
};

using ParameterUses = std::map<const Parameter*, ParameterUse>;

ParameterUses parameter_uses(const std::vector<std::unique_ptr<Block>>& blocks) {
  ParameterUses uses;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    for (const ParameterPtr& parameter : blocks[i]->parameters()) {
      const bool is_new = uses.emplace(parameter.get(), ParameterUse{i, {}}).second;
      GIMBAL_CHECK(is_new, "'", parameter->name, "' is owned twice");
    }
  }
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    for (const ParameterPtr& parameter : blocks[i]->borrowed()) {
      const auto use = uses.find(parameter.get());
      GIMBAL_CHECK(use != uses.end(), "'", blocks[i]->name(), "' borrows '", parameter->name,
                   "', which no block owns");
      GIMBAL_CHECK(use->second.owner < i, "'", blocks[i]->name(), "' borrows '", parameter->name,
                   "' from a later block: it would be reduced before its gradient is complete");
      use->second.borrowers.push_back(i);
    }
  }
  return uses;
}

std::string unit_name(const Block& owner, const UnitSpec& unit) {
  std::string marks;
  const auto mark = [&marks](const std::string& text) {
    marks += (marks.empty() ? "" : ", ") + text;
  };
  if (unit.on_stages) mark("tied: " + unit.parameters.front()->name);
  if (!unit.trainable) mark("frozen");
  if (unit.cut) mark("tp");
  return marks.empty() ? owner.name() : owner.name() + " (" + marks + ")";
}

class StoreUnitsMaker {
 public:
  StoreUnitsMaker(const std::vector<std::unique_ptr<Block>>& blocks,
                  const std::vector<bool>& own_blocks)
      : blocks_(blocks), own_blocks_(own_blocks), uses_(parameter_uses(blocks)) {}

  StoreUnits make() {
    result_.block_units.resize(blocks_.size());
    for (std::size_t i = 0; i < blocks_.size(); ++i) add_owner(i);
    return std::move(result_);
  }

 private:
  bool is_own(std::size_t block) const { return own_blocks_.empty() || own_blocks_[block]; }

  /// Both sides of a tie make its unit here, in the same order.
  void add_owner(std::size_t block) {
    const auto& parameters = blocks_[block]->parameters();
    for (const bool trainable : {true, false}) {
      for (const bool cut : {false, true}) {
        UnitSpec unit;
        unit.owner = unit.reducer = block;
        unit.trainable = trainable;
        unit.cut = cut;
        for (const ParameterPtr& parameter : parameters) {
          if (parameter->trainable != trainable || (parameter->sharded_dim >= 0) != cut) continue;
          const auto is_borrower_own = [this](std::size_t i) { return is_own(i); };
          const auto& borrowers = uses_.at(parameter.get()).borrowers;
          const bool any_own = std::ranges::any_of(borrowers, is_borrower_own);
          const bool all_own = std::ranges::all_of(borrowers, is_borrower_own);
          if (is_own(block) ? all_own : !any_own) {
            if (is_own(block)) unit.parameters.push_back(parameter);
            continue;
          }
          UnitSpec tied = unit;
          tied.parameters = {parameter};
          tied.on_stages = true;
          tied.is_copy = !is_own(block);
          if (tied.is_copy) tied.reducer = *std::ranges::find_if(borrowers, is_borrower_own);
          add_unit(std::move(tied));
        }
        if (!unit.parameters.empty()) add_unit(std::move(unit));
      }
    }
  }

  void add_unit(UnitSpec unit) {
    const std::size_t index = result_.units.size();
    unit.name = unit_name(*blocks_[unit.owner], unit);
    const auto use = [&](std::size_t block) {
      std::vector<std::size_t>& units = result_.block_units[block];
      if (is_own(block) && std::ranges::find(units, index) == units.end()) units.push_back(index);
    };
    use(unit.owner);
    for (const ParameterPtr& parameter : unit.parameters) {
      for (const std::size_t block : uses_.at(parameter.get()).borrowers) use(block);
    }
    result_.units.push_back(std::move(unit));
  }

  const std::vector<std::unique_ptr<Block>>& blocks_;
  const std::vector<bool>& own_blocks_;
  ParameterUses uses_;
  StoreUnits result_;
};

}  // namespace

StoreUnits make_store_units(const std::vector<std::unique_ptr<Block>>& blocks,
                            const std::vector<bool>& own_blocks) {
  GIMBAL_CHECK(own_blocks.empty() || own_blocks.size() == blocks.size(), "own blocks");
  return StoreUnitsMaker(blocks, own_blocks).make();
}

}  // namespace gimbal
