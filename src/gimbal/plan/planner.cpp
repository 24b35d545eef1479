#include "gimbal/plan/planner.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "gimbal/base/error.h"
#include "gimbal/plan/partition.h"
#include "gimbal/plan/search/cap_candidates.h"
#include "gimbal/plan/search/least_memory.h"
#include "gimbal/plan/search/meshes.h"
#include "gimbal/plan/search/predict.h"
#include "gimbal/plan/search/refine.h"

namespace gimbal {
namespace {

/// How far the samples of a step may be from what was asked for, as a share; farther only where
/// nothing else is possible.
constexpr double kStepTolerance = 0.1;
/// Steps that are simulated to compare candidates.
constexpr std::uint64_t kSearchSteps = 1;
/// Candidates are compared on packs of a part of the samples: so many of the best are refined with
/// all of them.
constexpr std::size_t kFinalists = 2;
/// Times that the caps are moved.
constexpr int kCapRounds = 3;

class PassTimer {
 public:
  explicit PassTimer(Seconds& seconds) : seconds_(seconds) {}
  ~PassTimer() {
    seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }
  PassTimer(const PassTimer&) = delete;
  PassTimer& operator=(const PassTimer&) = delete;

 private:
  Seconds& seconds_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

struct Option {
  Candidate candidate;
  std::size_t packed = 0;  // index into the estimates
  Seconds bound = 0;       // per sample
};

struct Found {
  Option option;
  StageLayout layout;
  Seconds seconds = 0;  // per sample
};

class PlanSearch {
 public:
  explicit PlanSearch(const PlanInput& input)
      : input_(with_memo(input)),
        evaluator_(input_),
        num_kept_(std::max(kFinalists, input.num_top)) {
    for (const std::string& name : pass_names()) {
      result_.passes.push_back({name, !input.without.contains(name), 0, ""});
    }
  }

  PlanResult run() {
    choose_caps();
    list_options();
    search();
    finish();
    return std::move(result_);
  }

 private:
  static PlanInput with_memo(PlanInput input) {
    if (!input.memo) input.memo = make_pack_memo();
    return input;
  }

  PassReport& pass(const std::string& name) {
    return *std::find_if(result_.passes.begin(), result_.passes.end(),
                         [&](const PassReport& report) { return report.name == name; });
  }

  void choose_caps() {
    const PassTimer clock(pass("caps").seconds);
    for (const PackCaps& caps : cap_candidates(input_)) {
      estimates_.push_back(estimate_packs(input_, caps));
    }
  }

  std::vector<ScheduleShape> shapes(int pp, int micro_batches) const {
    const PipelineKind kind = input_.schedule.value_or(PipelineKind::kOneFOneB);
    if (pp == 1)
      return {{kind == PipelineKind::kInterleaved ? PipelineKind::kOneFOneB : kind, 1, 1,
               micro_batches}};
    std::vector<PipelineKind> kinds{kind};
    if (!input_.schedule && !input_.without.contains("schedules")) {
      kinds = {PipelineKind::kOneFOneB, PipelineKind::kInterleaved, PipelineKind::kZeroBubble};
    }
    std::vector<ScheduleShape> list;
    for (const PipelineKind each : kinds) {
      const int per_rank = each == PipelineKind::kInterleaved ? input_.stages_per_rank : 1;
      if (each == PipelineKind::kInterleaved && per_rank == 1) continue;
      const auto stages = static_cast<std::size_t>(pp) * static_cast<std::size_t>(per_rank);
      if (stages > input_.model.blocks.size()) continue;
      if (per_rank > 1 && micro_batches % std::max(1, micro_batches / pp) != 0) continue;
      if (static_cast<std::int64_t>(stages) * micro_batches > kMostSchedulePairs) continue;
      list.push_back({each, pp, per_rank, micro_batches});
    }
    return list;
  }

  std::uint64_t packs_per_step(const MeshShape& mesh, const PackedWork& packed) const {
    const auto ranks = static_cast<std::uint64_t>(mesh.data_parallel());
    if (input_.packs_per_step) {
      return *input_.packs_per_step % ranks == 0 ? *input_.packs_per_step : 0;
    }
    const double packs = input_.samples_per_step / packed.samples_per_pack;
    const auto slots = std::max<std::uint64_t>(
        1, static_cast<std::uint64_t>(std::llround(packs / static_cast<double>(ranks))));
    const double off = std::abs(static_cast<double>(slots * ranks) / packs - 1);
    return off > step_tolerance_ ? 0 : slots * ranks;
  }

  void list_options() {
    const PassTimer clock(pass("mesh").seconds);
    add_options();
    if (options_.empty() && !input_.packs_per_step) {
      step_tolerance_ = INFINITY;
      add_options();
    }
    GIMBAL_USER_CHECK(!options_.empty(), why_no_options());
    std::stable_sort(options_.begin(), options_.end(),
                     [](const Option& a, const Option& b) { return a.bound < b.bound; });
    result_.num_candidates = options_.size();
    least_bound_ = options_.front().bound;
  }

  std::string why_no_options() const {
    if (input_.packs_per_step) {
      return concat(
          "no mesh of ", count_devices(input_.devices), " shares a step of ",
          *input_.packs_per_step, *input_.packs_per_step == 1 ? " pack" : " packs",
          " among its data-parallel ranks evenly, with the axes and the schedule that were "
          "asked for. Give --packs-per-step a multiple of the data-parallel ranks (",
          input_.devices, " when all devices are), or leave axes free.");
    }
    return concat("no schedule of ", count_devices(input_.devices),
                  " has the stages that were asked for. Choose other --pp, --stages-per-rank or "
                  "--schedule.");
  }

  void add_options() {
    const std::vector<MeshShape> meshes = possible_meshes(input_);
    result_.num_meshes = meshes.size();
    for (const MeshShape& mesh : meshes) {
      for (std::size_t k = 0; k < estimates_.size(); ++k) {
        const std::uint64_t packs = packs_per_step(mesh, estimates_[k]);
        if (packs == 0) continue;
        const auto slots =
            static_cast<int>(packs / static_cast<std::uint64_t>(mesh.data_parallel()));
        for (const ScheduleShape& shape : shapes(mesh.pp, slots)) {
          for (const ShardPolicy policy : {ShardPolicy::kKeepWeights, ShardPolicy::kReshard}) {
            if (policy == ShardPolicy::kReshard && mesh.dp_shard == 1) continue;
            if (mesh.dp_shard > 1 && input_.shard_policy.value_or(policy) != policy) continue;
            options_.push_back(make_option({mesh, policy, shape, packs}, k));
          }
        }
      }
    }
  }

  Option make_option(const Candidate& candidate, std::size_t packed) {
    const double samples =
        static_cast<double>(candidate.packs_per_step) * estimates_[packed].samples_per_pack;
    const Seconds bound = evaluator_.quick_bound(candidate, estimates_[packed]).seconds() / samples;
    return {candidate, packed, bound};
  }

  /// Cuts and simulates a candidate, and keeps it when it is among the best. Returns its seconds
  /// per sample; infinite when no cut fits.
  Seconds try_option(const Option& option) {
    const PackedWork& packed = estimates_[option.packed];
    std::optional<StageLayout> layout;
    {
      const PassTimer clock(pass("partition").seconds);
      layout = cut_candidate(evaluator_, option.candidate, packed);
    }
    if (!layout) return INFINITY;
    const PassTimer clock(pass("schedules").seconds);
    const Seconds seconds =
        evaluator_.simulate(option.candidate, *layout, packed, kSearchSteps).time.seconds /
        (static_cast<double>(option.candidate.packs_per_step) * packed.samples_per_pack);
    const auto place =
        std::upper_bound(found_.begin(), found_.end(), seconds,
                         [](Seconds value, const Found& found) { return value < found.seconds; });
    found_.insert(place, {option, std::move(*layout), seconds});
    if (found_.size() > num_kept_) found_.pop_back();
    return seconds;
  }

  void search() {
    for (const Option& option : options_) {
      if (std::isinf(option.bound)) break;  // more state than memory
      if (found_.size() >= num_kept_ && option.bound >= found_.back().seconds) break;
      try_option(option);
    }
    if (found_.empty()) throw_too_small();
    tune_caps();
  }

  /// Caps near those of the best candidate, on its mesh and schedule: the least time per sample
  /// often lies where one stream fills its cap before the other does.
  void tune_caps() {
    if (!pass("caps").enabled || input_.caps) return;
    for (int round = 0; round < kCapRounds; ++round) {
      const Option best = found_.front().option;
      const Seconds seconds = found_.front().seconds;
      for (const PackCaps& near : nearby_caps(input_, estimates_[best.packed].caps)) {
        const auto same = [&](const PackedWork& packed) { return packed.caps.rows == near.rows; };
        if (std::any_of(estimates_.begin(), estimates_.end(), same)) continue;
        {
          const PassTimer clock(pass("caps").seconds);
          estimates_.push_back(estimate_packs(input_, near));
        }
        try_caps(best.candidate, estimates_.size() - 1);
      }
      if (found_.front().seconds >= seconds) break;
    }
  }

  void try_caps(Candidate candidate, std::size_t packed) {
    candidate.packs_per_step = packs_per_step(candidate.mesh, estimates_[packed]);
    if (candidate.packs_per_step == 0) return;
    const auto ranks = static_cast<std::uint64_t>(candidate.mesh.data_parallel());
    const auto slots = static_cast<int>(candidate.packs_per_step / ranks);
    const PipelineKind kind = candidate.schedule.kind;
    for (const ScheduleShape& shape : shapes(candidate.mesh.pp, slots)) {
      if (shape.kind != kind) continue;
      candidate.schedule = shape;
      const Option option = make_option(candidate, packed);
      ++result_.num_candidates;
      least_bound_ = std::min(least_bound_, option.bound);
      try_option(option);
    }
  }

  [[noreturn]] void throw_too_small() {
    std::vector<PackedCandidate> candidates;
    for (const Option& option : options_) {
      candidates.push_back({&option.candidate, &estimates_[option.packed]});
    }
    throw_memory_too_small(evaluator_, candidates);
  }

  static Seconds per_sample(const Plan& plan) {
    return plan.prediction.step.seconds / plan.prediction.samples_per_step;
  }

  void finish() {
    const Seconds before = found_.front().seconds;
    for (std::size_t k = 0; k < found_.size(); ++k) {
      if (auto plan = finish_one(k)) result_.top.push_back(std::move(*plan));
    }
    if (result_.top.empty()) throw_too_small();
    std::stable_sort(result_.top.begin(), result_.top.end(),
                     [](const Plan& a, const Plan& b) { return per_sample(a) < per_sample(b); });
    result_.top.resize(std::min(result_.top.size(), std::max<std::size_t>(1, input_.num_top)));
    result_.best = result_.top.front();
    result_.num_simulated = evaluator_.num_simulated();
    report_passes(before);
  }

  /// The k-th candidate's plan on all samples; the first ones refined. Nothing when the packs of
  /// all samples do not fit as those of the estimate did.
  std::optional<Plan> finish_one(std::size_t k) {
    Found& found = found_[k];
    const Candidate& candidate = found.option.candidate;
    std::shared_ptr<const PackedWork> packed;
    {
      const PassTimer clock(pass("caps").seconds);
      packed = pack_all(input_, estimates_[found.option.packed].caps, candidate.packs_per_step);
    }
    if (!fits(evaluator_.cut_problem(candidate, *packed), found.layout)) {
      std::optional<StageLayout> again = cut_candidate(evaluator_, candidate, *packed);
      if (!again) return std::nullopt;
      found.layout = std::move(*again);
    }
    PassReport& refine = pass("refine");
    if (refine.enabled && k < kFinalists) {
      const PassTimer clock(refine.seconds);
      found.layout = refine_layout(evaluator_, candidate, *packed, found.layout);
    }
    Plan plan = complete_plan(evaluator_, candidate, found.layout, *packed, "gimbal");
    // The estimates' ratio of bounds carries over to all samples.
    const Prediction& p = plan.prediction;
    const Seconds least =
        p.bound.seconds() / p.samples_per_step * (least_bound_ / found.option.bound);
    result_.bound_per_sample =
        result_.top.empty() ? least : std::min(result_.bound_per_sample, least);
    return plan;
  }

  void report_passes(Seconds before) {
    const Plan& best = result_.best;
    pass("caps").result =
        concat(best.caps.size() > 1 ? concat("text ", best.caps[0], ", vision ", best.caps[1])
                                    : concat("text ", best.caps[0]),
               " of ", estimates_.size(), estimates_.size() == 1 ? " choice" : " choices");
    pass("mesh").result = concat(to_string(best.mesh), " of ", result_.num_meshes,
                                 result_.num_meshes == 1 ? " mesh" : " meshes");
    pass("schedules").result =
        concat(pipeline_name(best.schedule.kind), ", ", best.micro_batches, " micro-batches; ",
               result_.num_simulated, " steps simulated");
    pass("partition").result =
        concat(result_.num_candidates, " candidates, bounds first; ", found_.size(), " kept");
    const auto kept =
        std::count(best.layout.recompute.begin(), best.layout.recompute.end(), Recompute::kKeep);
    pass("recompute").result = concat(best.layout.recompute.size() - static_cast<std::size_t>(kept),
                                      " of ", best.layout.recompute.size(), " blocks recompute");
    pass("refine").result = concat(before * 1e3, " ms per sample on a part of the samples, ",
                                   per_sample(best) * 1e3, " on all of them and with moved cuts");
    for (PassReport& report : result_.passes) {
      if (!report.enabled) report.result = "off: " + report.result;
    }
  }

  const PlanInput input_;
  Evaluator evaluator_;
  std::size_t num_kept_;
  Seconds least_bound_ = 0;  // per sample
  double step_tolerance_ = kStepTolerance;
  PlanResult result_;
  std::vector<PackedWork> estimates_;  // per caps
  std::vector<Option> options_;        // ascending bound
  std::vector<Found> found_;           // ascending seconds
};

}  // namespace

std::vector<std::string> pass_names() {
  return {"caps", "mesh", "schedules", "partition", "recompute", "refine"};
}

PlanResult make_plan(const PlanInput& input) {
  const std::vector<std::string> names = pass_names();
  for (const std::string& name : input.without) {
    std::string all;
    for (const std::string& known : names) all += (all.empty() ? "" : ", ") + known;
    GIMBAL_USER_CHECK(std::find(names.begin(), names.end(), name) != names.end(),
                      "there is no pass '", name, "'; the passes are ", all);
  }
  GIMBAL_USER_CHECK(input.samples_per_step > 0, "samples per step: ", input.samples_per_step,
                    "; must be above 0");
  return PlanSearch(input).run();
}

Prediction predict_plan(const PlanInput& input, const Plan& plan) {
  Evaluator evaluator(input);
  PackCaps caps;
  caps.rows = plan.caps;
  caps.rows.resize(2);
  const auto packed = pack_all(input, caps, plan.packs_per_step);
  return complete_plan(evaluator, candidate_of(plan), plan.layout, *packed, plan.method).prediction;
}

}  // namespace gimbal
