// The packing patterns of a run, kept in its folder.
#pragma once

#include <filesystem>
#include <memory>

#include "gimbal/balance/sampler.h"
#include "gimbal/parallel/comm.h"

namespace gimbal {

/// The patterns that the run's sampler works with. Rank 0 solves them and writes
/// `run_folder`/patterns.json; a run that `goes_on` reads the file instead when it was made for the
/// same caps, so that the order of samples stays, also with another version of the solver. Empty
/// for methods and data sets that need none. Collective. Throws UserError for a damaged file.
std::shared_ptr<const PatternSet> patterns_of_run(const SampleSizes& sizes,
                                                  const SamplerOptions& options,
                                                  const std::filesystem::path& run_folder,
                                                  bool goes_on, Comm& comm);

}  // namespace gimbal
