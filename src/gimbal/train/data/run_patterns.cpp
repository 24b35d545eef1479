#include "gimbal/train/data/run_patterns.h"

#include "gimbal/base/error.h"
#include "gimbal/base/log.h"
#include "gimbal/train/build.h"

namespace gimbal {

std::shared_ptr<const PatternSet> patterns_of_run(const SampleSizes& sizes,
                                                  const SamplerOptions& options,
                                                  const std::filesystem::path& run_folder,
                                                  bool goes_on, Comm& comm) {
  if (options.method != PackMethod::kGimbal) return std::make_shared<const PatternSet>();
  const std::filesystem::path file = run_folder / "patterns.json";
  if (comm.rank() == 0) {
    const PackLimits limits(sizes, options.caps, options.costs);
    const bool keep = goes_on && std::filesystem::exists(file) && load_patterns(file).fits(limits);
    if (!keep) {
      const auto solved = Sampler(sizes, options).patterns();
      save_patterns(*solved, file);
      if (!solved->empty())
        log_info(concat(solved->patterns.size(), " packing patterns in ", solved->seconds, " s"));
    }
  }
  comm.barrier("packing patterns");
  const auto patterns = std::make_shared<const PatternSet>(load_patterns(file));
  check_same_on_all_ranks(comm, std::to_string(patterns->fingerprint()), "packing patterns");
  return patterns;
}

}  // namespace gimbal
