// Which parameters of a rank's blocks lie in one buffer.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "gimbal/parallel/store.h"

namespace gimbal {

/// Parameters of one block that are gathered and reduced together: all trainable or all frozen, all
/// cut over tensor-parallel ranks or all whole. A parameter that another stage has as well is
/// alone.
struct UnitSpec {
  std::vector<ParameterPtr> parameters;
  std::size_t owner = 0;  // block
  bool trainable = true;
  bool cut = false;        // over tensor-parallel ranks
  bool on_stages = false;  // two stages have it
  bool is_copy = false;    // the owner is on the other one
  /// The block whose finish_micro_batch reduces the gradients: all others that use them finish
  /// before. The owner or, on a copy, the first borrower.
  std::size_t reducer = 0;
  /// Part of the names of collectives: "text.0", "text.0 (frozen, tp)".
  std::string name;
};

struct StoreUnits {
  std::vector<UnitSpec> units;                        // in the order of owners
  std::vector<std::vector<std::size_t>> block_units;  // per block: units that it needs
};

/// `own_blocks`: as in StoreSetup. Throws InternalError for a parameter that two blocks own, and
/// for one that a block borrows from no block or from a later one.
StoreUnits make_store_units(const std::vector<std::unique_ptr<Block>>& blocks,
                            const std::vector<bool>& own_blocks);

}  // namespace gimbal
