// A file of packs that C++ and Python read. Its bytes are described in docs/balance_command.md.
#pragma once

#include <cstdint>
#include <filesystem>

#include "gimbal/balance/packs.h"

namespace gimbal {

/// What a pack file holds besides the packs, which are in the order in which they are run.
struct PackFile {
  Packs packs;
  std::uint64_t num_samples = 0;  // of the data set
  std::uint64_t packs_per_step = 1;
  std::uint64_t packs_per_slot = 1;
  std::uint64_t seed = 0;
  std::uint64_t epoch = 0;
};

/// Written to a temporary name, synced and renamed. Throws UserError when that fails.
void save_packs(const PackFile& packs, const std::filesystem::path& file);
/// Throws UserError for a file that is missing, damaged, cut short or of another version.
PackFile load_packs(const std::filesystem::path& file);

}  // namespace gimbal
