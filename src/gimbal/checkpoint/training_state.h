// Where a run stands: what goes on from a checkpoint has to know besides the tensors.
#pragma once

#include <cstdint>
#include <string>

#include "gimbal/base/json.h"

namespace gimbal {

/// Where a run stands after `step` steps. Plain numbers: the data order is a function of seed,
/// epoch and step.
struct TrainingState {
  std::uint64_t step = 0;
  std::uint64_t epoch = 0;
  std::uint64_t step_in_epoch = 0;  // of the next step
  std::uint64_t seed = 0;
  std::int64_t optimizer_steps = 0;  // fewer than `step` when steps were skipped
  std::uint64_t samples = 0;         // trained on so far
  std::uint64_t tokens = 0;
  std::uint64_t loss_tokens = 0;
  std::uint64_t elapsed_milliseconds = 0;  // in steps so far
  std::string stage;                       // of the recipe
  std::string recipe_fingerprint;
  std::string dataset_fingerprint;

  bool operator==(const TrainingState&) const = default;
};

Json to_json(const TrainingState& state);
/// Throws UserError naming `where` and the key.
TrainingState training_state_from_json(const Json& json, const std::string& where);

}  // namespace gimbal
