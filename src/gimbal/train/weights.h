// Values of a model's parameters: from a config alone, from and to Hugging Face folders.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "gimbal/models/model.h"
#include "gimbal/parallel/store.h"

namespace gimbal {

/// Fills the shards with initial values: a function of the seed and the parameter's name.
void init_weights(ParameterStore& store, std::uint64_t seed);

/// Copies the folder's tensors into the shards. Throws UserError for a missing weight or a wrong
/// shape.
void load_hf_weights(const Model& model, ParameterStore& store,
                     const std::filesystem::path& folder);

/// A short text that differs when values differ: sum and norm over all shards of this rank in
/// float64.
std::string weights_fingerprint(ParameterStore& store);

}  // namespace gimbal
