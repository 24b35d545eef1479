#include "gimbal/plan/fit_check.h"

#include <algorithm>
#include <array>
#include <memory>

#include "gimbal/base/byte_text.h"
#include "gimbal/base/error.h"
#include "gimbal/plan/search/cap_candidates.h"
#include "gimbal/plan/search/evaluator.h"
#include "gimbal/plan/text/figures.h"
#include "gimbal/schedule/in_flight.h"
#include "gimbal/schedule/schedule.h"
#include "gimbal/sim/rank_state.h"

namespace gimbal {
namespace {

enum RankPart { kStatePart, kGatheredPart, kActivationPart, kWorkspacePart, kMessagePart, kParts };
constexpr std::array<const char*, kParts> kPartNames{"parameters, gradients, optimizer",
                                                     "gathered weights and gradients",
                                                     "activations", "workspace", "messages"};

using RankBytes = std::array<Bytes, kParts>;

Bytes sum_of(const RankBytes& bytes) {
  Bytes sum = 0;
  for (const Bytes part : bytes) sum += part;
  return sum;
}

// Memory of the ranks of a plan as a function of the micro-batches.
class RankMemory {
 public:
  RankMemory(const CostModel& costs, const Plan& plan) : costs_(costs), plan_(plan) {
    const Schedule schedule = make_schedule(plan.schedule);
    GIMBAL_CHECK_EQ(plan.layout.num_stages(), static_cast<std::size_t>(schedule.num_stages));
    for (std::size_t rank = 0; rank < static_cast<std::size_t>(schedule.num_ranks); ++rank) {
      moments_.push_back(fullest_moments(schedule, static_cast<int>(rank)));
      std::vector<BlockSpan> spans;
      for (std::size_t s = rank; s < plan.layout.num_stages(); s += num_ranks(schedule))
        spans.push_back({begin(s), end(s)});
      const RankState held = rank_state(costs, spans, schedule.num_micro_batches);
      state_.push_back({});
      state_.back()[kStatePart] = held.state;
      state_.back()[kGatheredPart] = held.gathered;
    }
  }

  std::size_t ranks() const { return moments_.size(); }

  /// Peak of the rank when every micro-batch is `work`. `fullest_stage`: which of its stages holds
  /// most activations then; may be null.
  RankBytes peak(std::size_t rank, const WorkSize& work, std::size_t* fullest_stage) const {
    RankBytes bytes = state_[rank];
    std::vector<Bytes> saved;  // of one micro-batch, per stage of the rank
    Bytes before = 0, after = 0;
    for (std::size_t s = rank; s < plan_.layout.num_stages(); s += ranks()) {
      saved.push_back(0);
      for (std::size_t i = begin(s); i < end(s); ++i) {
        const Recompute level = plan_.layout.recompute[i];
        saved.back() += costs_.saved(i, work, level);
        bytes[kWorkspacePart] = std::max({bytes[kWorkspacePart], costs_.forward_workspace(i, work),
                                          costs_.backward_workspace(i, work, level)});
      }
      if (begin(s) > 0) before = std::max(before, costs_.cut_bytes(begin(s) - 1, work));
      if (end(s) < costs_.num_blocks()) after = std::max(after, costs_.cut_bytes(end(s) - 1, work));
    }
    bytes[kMessagePart] = message_buffer_bytes(before, after, static_cast<int>(ranks()));
    for (const std::vector<int>& held : moments_[rank]) {
      Bytes activations = 0, most = -1;
      std::size_t fullest = rank;
      for (std::size_t k = 0; k < saved.size(); ++k) {
        activations += held[k] * saved[k];
        if (held[k] * saved[k] > most) {
          most = held[k] * saved[k];
          fullest = rank + k * ranks();
        }
      }
      if (activations < bytes[kActivationPart]) continue;
      bytes[kActivationPart] = activations;
      if (fullest_stage != nullptr) *fullest_stage = fullest;
    }
    return bytes;
  }

  /// The largest peak over the ranks. `fullest_rank`: whose it is; may be null.
  Bytes largest(const WorkSize& work, std::size_t* fullest_rank = nullptr) const {
    Bytes most = 0;
    for (std::size_t rank = 0; rank < ranks(); ++rank) {
      const Bytes bytes = sum_of(peak(rank, work, nullptr));
      if (bytes <= most) continue;
      most = bytes;
      if (fullest_rank != nullptr) *fullest_rank = rank;
    }
    return most;
  }

 private:
  static std::size_t num_ranks(const Schedule& schedule) {
    return static_cast<std::size_t>(schedule.num_ranks);
  }
  std::size_t begin(std::size_t stage) const { return plan_.layout.stage_begin[stage]; }
  std::size_t end(std::size_t stage) const { return plan_.layout.stage_begin[stage + 1]; }

  const CostModel& costs_;
  const Plan& plan_;
  std::vector<std::vector<std::vector<int>>> moments_;  // per rank
  std::vector<RankBytes> state_;                        // per rank: what work does not change
};

std::string work_text(const WorkSize& work, const ModelDesc& model) {
  std::string text = count_text(static_cast<std::uint64_t>(work.text_rows)) + " text rows";
  if (work.vision_rows > 0) {
    text += ", " + count_text(static_cast<std::uint64_t>(work.vision_rows)) + " " +
            model.vision_row + "s";
  }
  return text;
}

// Samples whose pack would not fit if they were alone in it.
std::vector<FitCheck::Misfit> find_misfits(const CostModel& costs, const RankMemory& memory,
                                           const SampleTable& samples, Bytes capacity) {
  std::vector<FitCheck::Misfit> misfits;
  const Bytes empty = memory.largest({});
  for (std::size_t i = 0; i < samples.size(); ++i) {
    const WorkSize work = sample_work(samples, i, costs.model());
    const Bytes bytes = memory.largest(work);
    if (bytes <= capacity) continue;
    std::string reason = empty > capacity
                             ? "the state of the model alone does not fit"
                             : "its " + work_text(work, costs.model()) + " alone need " +
                                   bytes_text(bytes - empty) + " beside the " + bytes_text(empty) +
                                   " of the model's state";
    misfits.push_back({static_cast<std::uint32_t>(i), bytes, std::move(reason)});
  }
  return misfits;
}

}  // namespace

FitCheck check_fit(const CostModel& costs, const Plan& plan, const PackedWork& packed,
                   const SampleTable& samples) {
  GIMBAL_CHECK(!packed.packs.empty(), "no packs to check");
  const RankMemory memory(costs, plan);
  FitCheck check;
  check.capacity_bytes = plan.prediction.capacity_bytes;
  check.num_packs = packed.packs.size();
  for (std::size_t p = 0; p < packed.packs.size(); ++p) {
    bool over = false;
    for (std::size_t rank = 0; rank < memory.ranks(); ++rank) {
      const Bytes bytes = sum_of(memory.peak(rank, packed.packs[p], nullptr));
      over = over || bytes > check.capacity_bytes;
      if (bytes <= check.peak_bytes) continue;
      check.peak_bytes = bytes;
      check.worst_pack = p;
      check.worst_rank = rank;
    }
    if (over) ++check.num_packs_over;
  }
  check.full_peak_bytes = memory.largest(packed.largest);
  check.fits = check.num_packs_over == 0 && check.full_peak_bytes <= check.capacity_bytes;
  check.worst_work = packed.packs[check.worst_pack];
  const RankBytes parts = memory.peak(check.worst_rank, check.worst_work, &check.worst_stage);
  for (std::size_t k = 0; k < kParts; ++k) {
    if (parts[k] > 0) check.parts.push_back({kPartNames[k], parts[k]});
  }
  if (check.worst_pack < packed.samples.size()) {
    check.worst_samples = packed.samples[check.worst_pack];
  }
  if (!check.fits) check.misfits = find_misfits(costs, memory, samples, check.capacity_bytes);
  return check;
}

namespace {

std::shared_ptr<const PackedWork> packs_of(const PlanInput& input, const Plan& plan) {
  PackCaps caps;
  caps.rows = plan.caps;
  caps.rows.resize(2);
  return pack_all(input, caps, plan.packs_per_step);
}

}  // namespace

std::vector<FullPeak> full_peaks(const PlanInput& input, const std::vector<Plan>& plans) {
  Evaluator evaluator(input);
  std::vector<FullPeak> peaks;
  for (const Plan& plan : plans) {
    const RankMemory memory(evaluator.costs(plan.mesh, plan.shard_policy), plan);
    FullPeak peak;
    peak.bytes = memory.largest(packs_of(input, plan)->largest, &peak.rank);
    peak.fits = peak.bytes <= evaluator.capacity();
    peaks.push_back(peak);
  }
  return peaks;
}

FitCheck check_plan_fit(const PlanInput& input, const Plan& plan) {
  Evaluator evaluator(input);
  Plan own = plan;
  own.prediction.capacity_bytes = evaluator.capacity();
  return check_fit(evaluator.costs(plan.mesh, plan.shard_policy), own, *packs_of(input, plan),
                   input.samples);
}

}  // namespace gimbal
