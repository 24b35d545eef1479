#include "apps/cli/balance/run.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <numeric>

#include "apps/cli/balance/memory_peak.h"
#include "apps/cli/balance/progress.h"
#include "gimbal/balance/limits.h"
#include "gimbal/base/error.h"
#include "gimbal/base/log.h"

namespace gimbal::cli {
namespace {

using Clock = std::chrono::steady_clock;

// What the LP bound may take; it is a true bound when it is stopped, too.
constexpr double kBoundSeconds = 60;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

class MethodRunner {
 public:
  MethodRunner(const BalanceArguments& arguments, const BalanceSetup& setup)
      : arguments_(arguments), setup_(setup) {}

  BalanceResult run() {
    std::vector<PackMethod> methods{arguments_.method};
    for (const PackMethod method :
         {PackMethod::kGimbal, PackMethod::kIsf, PackMethod::kBestFitDecreasing,
          PackMethod::kLength, PackMethod::kRandom}) {
      const bool wanted =
          arguments_.compare || (method == PackMethod::kRandom && !arguments_.plot_file.empty());
      if (wanted && method != arguments_.method) methods.push_back(method);
    }
    samples_per_group_ = arguments_.samples_per_pack;
    // Mini-batches are as large as gimbal's packs, so gimbal comes first.
    std::optional<MethodResult> gimbal;
    if (is_padded(arguments_.method) && samples_per_group_ == 0) gimbal = pack(PackMethod::kGimbal);

    const MemoryPeak peak;
    for (const PackMethod method : methods) {
      if (method == PackMethod::kGimbal && gimbal) {
        result_.methods.push_back(std::move(*gimbal));
        continue;
      }
      result_.methods.push_back(pack(method));
      if (result_.methods.size() == 1) result_.peak_bytes = peak.bytes();
    }
    find_bound();
    result_.source_counts = result_.methods.front().sampler->source_counts(arguments_.epoch);
    return std::move(result_);
  }

 private:
  MethodResult pack(PackMethod method) {
    SamplerOptions options = setup_.options;
    options.method = method;
    MethodResult made{method, nullptr, nullptr, {}, 0};
    if (is_padded(method)) made.samples_per_group = options.samples_per_group = samples_per_group_;
    Progress progress("solving the patterns");
    if (method == PackMethod::kGimbal) {
      options.patterns = saved_patterns(options);
      options.pattern_options.progress = progress.callback();
    }
    made.sampler = std::make_unique<Sampler>(setup_.sizes(), std::move(options));
    if (method == PackMethod::kGimbal) keep_patterns(*made.sampler);
    made.report = made.sampler->report(arguments_.epoch, arguments_.ranks);
    made.packs = &made.sampler->epoch(arguments_.epoch).packs();
    const BalanceReport& report = made.report;
    GIMBAL_CHECK_EQ(report.samples_in, report.samples_packed + report.samples_rejected,
                    "samples in, packed and rejected");
    if (method == PackMethod::kGimbal && samples_per_group_ == 0 && report.packs > 0) {
      const double mean =
          static_cast<double>(report.samples_packed) / static_cast<double>(report.packs);
      samples_per_group_ = static_cast<std::uint64_t>(std::max(1.0, std::round(mean)));
    }
    return made;
  }

  // The patterns of the file, if it exists and is for these caps.
  std::shared_ptr<const PatternSet> saved_patterns(const SamplerOptions& options) {
    const std::string& file = arguments_.patterns_file;
    if (file.empty() || !std::filesystem::exists(file)) return nullptr;
    const auto start = Clock::now();
    auto set = std::make_shared<const PatternSet>(load_patterns(file));
    const SampleSizes sizes = setup_.sizes();
    if (!set->fits(PackLimits(sizes, options.caps, options.costs))) {
      log_info(concat(file, ": is for other caps; solving the patterns anew"));
      return nullptr;
    }
    const auto solved_for =
        std::accumulate(set->demand.begin(), set->demand.end(), std::uint64_t{0});
    const auto samples = sizes.num_samples();
    if (!set->empty() &&
        (solved_for > samples + samples / 100 || samples > solved_for + solved_for / 100)) {
      log_warning(concat(file, ": was solved for ", solved_for, " samples and the input has ",
                         samples, "; remove the file to solve the patterns anew"));
    }
    result_.patterns_loaded = true;
    result_.pattern_seconds = seconds_since(start);
    return set;
  }

  void keep_patterns(Sampler& sampler) {
    const auto start = Clock::now();
    result_.patterns = sampler.patterns();
    result_.pattern_seconds += seconds_since(start);
    if (arguments_.patterns_file.empty() || result_.patterns_loaded) return;
    save_patterns(*result_.patterns, arguments_.patterns_file);
  }

  void find_bound() {
    const MethodResult& chosen = result_.methods.front();
    result_.fast_bound = chosen.report.packs_lower_bound;
    if (arguments_.bound != BoundKind::kLp) return;
    const auto start = Clock::now();
    Progress progress("solving the bound");
    const SampleSizes sizes = setup_.sizes();
    const PackLimits limits(sizes, setup_.options.caps, setup_.options.costs);
    std::uint64_t known_packs = 0;  // a packing that keeps to the caps
    for (const MethodResult& method : result_.methods) {
      if (is_padded(method.method)) continue;
      known_packs =
          known_packs == 0 ? method.report.packs : std::min(known_packs, method.report.packs);
    }
    result_.lp_bound = lp_lower_bound(limits, chosen.packs->samples, kBoundSeconds, known_packs,
                                      progress.callback());
    result_.bound_seconds = seconds_since(start);
    if (!result_.lp_bound->complete) {
      log_info("the LP bound was not solved to its end; it is true, but may be low");
    }
  }

  const BalanceArguments& arguments_;
  const BalanceSetup& setup_;
  BalanceResult result_;
  std::uint64_t samples_per_group_ = 0;
};

}  // namespace

std::uint64_t BalanceResult::bound() const {
  return std::max(fast_bound, lp_bound ? lp_bound->packs : 0);
}

std::optional<double> BalanceResult::gap(const MethodResult& method) const {
  if (is_padded(method.method) || bound() == 0) return std::nullopt;
  return static_cast<double>(method.report.packs) / static_cast<double>(bound()) - 1.0;
}

BalanceResult run_methods(const BalanceArguments& arguments, const BalanceSetup& setup) {
  return MethodRunner(arguments, setup).run();
}

}  // namespace gimbal::cli
