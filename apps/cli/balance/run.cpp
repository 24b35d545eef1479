#include "apps/cli/balance/run.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <numeric>
#include <span>

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
    std::optional<MethodResult> gimbal;
    if (samples_per_group_ == 0) gimbal = gimbal_for_group_size(methods);

    const MemoryPeak peak;
    for (const PackMethod method : methods) {
      if (method == PackMethod::kGimbal && gimbal) {
        result_.methods.push_back(std::move(*gimbal));
        continue;
      }
      result_.methods.push_back(pack(method, arguments_.oversize));
      if (result_.methods.size() == 1) result_.peak_bytes = peak.bytes();
    }
    find_bound();
    result_.source_counts = result_.methods.front().sampler->source_counts(arguments_.epoch);
    return std::move(result_);
  }

 private:
  // Mini-batches are as large as gimbal's packs, so gimbal is run first, whether it is wanted or
  // not. Its result when it is wanted, and not the first of `methods` anyway.
  std::optional<MethodResult> gimbal_for_group_size(std::span<const PackMethod> methods) {
    const bool padded = std::any_of(methods.begin(), methods.end(), is_padded);
    if (!padded || methods.front() == PackMethod::kGimbal) return std::nullopt;
    if (std::find(methods.begin(), methods.end(), PackMethod::kGimbal) != methods.end()) {
      return pack(PackMethod::kGimbal, arguments_.oversize);
    }
    // Mini-batches hold any sample. One above a cap is a pack of its own here.
    const bool reject = arguments_.oversize == OversizePolicy::kReject;
    pack(PackMethod::kGimbal, reject ? OversizePolicy::kReject : OversizePolicy::kAlone);
    return std::nullopt;
  }

  MethodResult pack(PackMethod method, OversizePolicy oversize) {
    SamplerOptions options = setup_.options;
    options.method = method;
    options.oversize = oversize;
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
    if (method == PackMethod::kGimbal && result_.patterns_loaded) compare_numbers(made);
    if (method == PackMethod::kGimbal && samples_per_group_ == 0) {
      // Of no packs there is no mean; any number does.
      const double mean = report.packs == 0 ? 1
                                            : static_cast<double>(report.samples_packed) /
                                                  static_cast<double>(report.packs);
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
    result_.patterns_loaded = true;
    result_.pattern_seconds = seconds_since(start);
    return set;
  }

  // Patterns are solved for the samples that an epoch packs together.
  void compare_numbers(const MethodResult& made) const {
    const std::vector<std::uint64_t>& demand = result_.patterns->demand;
    if (result_.patterns->empty()) return;
    const auto solved_for =
        static_cast<double>(std::accumulate(demand.begin(), demand.end(), std::uint64_t{0}));
    const std::vector<std::uint8_t>& fate = made.sampler->screening().fate;
    const std::vector<std::uint32_t>& packed = made.packs->samples;
    const auto together =
        static_cast<double>(std::count_if(packed.begin(), packed.end(), [&](std::uint32_t sample) {
          return fate.empty() || fate[sample] == 0;
        }));
    // By weights, epochs draw other numbers of samples: four times as many as they scatter by.
    const bool drawn = !setup_.options.source_weights.empty();
    const double likely = 0.01 * solved_for + (drawn ? 4 * std::sqrt(solved_for) : 0);
    if (std::abs(together - solved_for) <= likely) return;
    log_warning(concat(arguments_.patterns_file, ": was solved for ",
                       static_cast<std::uint64_t>(solved_for), " samples and the epoch packs ",
                       static_cast<std::uint64_t>(together),
                       "; remove the file to solve the patterns anew"));
  }

  void keep_patterns(Sampler& sampler) {
    const auto start = Clock::now();
    result_.patterns = sampler.patterns();
    result_.pattern_seconds += seconds_since(start);
    if (arguments_.patterns_file.empty() || result_.patterns_loaded) return;
    save_patterns(*result_.patterns, arguments_.patterns_file);
  }

  void find_bound() {
    const MethodResult* capped = result_.capped();
    if (capped == nullptr) return;
    result_.fast_bound = capped->report.packs_lower_bound;
    if (arguments_.bound != BoundKind::kLp) return;
    const auto start = Clock::now();
    Progress progress("solving the bound");
    const SampleSizes sizes = setup_.sizes();
    const PackLimits limits(sizes, setup_.options.caps, setup_.options.costs);
    std::uint64_t known_packs = capped->report.packs;
    for (const MethodResult& method : result_.methods) {
      if (!is_padded(method.method)) known_packs = std::min(known_packs, method.report.packs);
    }
    result_.lp_bound = lp_lower_bound(limits, capped->packs->samples, kBoundSeconds, known_packs,
                                      progress.callback());
    result_.bound_seconds = seconds_since(start);
    if (!result_.lp_bound->complete()) {
      log_info("the LP bound was stopped before its end; it is true, but may be low");
    }
  }

  const BalanceArguments& arguments_;
  const BalanceSetup& setup_;
  BalanceResult result_;
  std::uint64_t samples_per_group_ = 0;
};

}  // namespace

const MethodResult* BalanceResult::capped() const {
  for (const MethodResult& method : methods) {
    if (!is_padded(method.method)) return &method;
  }
  return nullptr;
}

std::optional<std::uint64_t> BalanceResult::bound() const {
  if (!fast_bound) return std::nullopt;
  return std::max(*fast_bound, lp_bound ? lp_bound->packs : 0);
}

const char* BalanceResult::bound_name() const {
  return lp_bound && lp_bound->value >= static_cast<double>(*fast_bound) ? "lp" : "fast";
}

std::optional<double> BalanceResult::gap(const MethodResult& method) const {
  if (is_padded(method.method) || bound().value_or(0) == 0) return std::nullopt;
  return static_cast<double>(method.report.packs) / static_cast<double>(*bound()) - 1.0;
}

BalanceResult run_methods(const BalanceArguments& arguments, const BalanceSetup& setup) {
  return MethodRunner(arguments, setup).run();
}

}  // namespace gimbal::cli
