// "Will it fit?": the largest pack on the worst stage, against the memory of a device.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "gimbal/plan/packed_work.h"
#include "gimbal/plan/plan.h"
#include "gimbal/plan/planner.h"

namespace gimbal {

struct FitCheck {
  bool fits = false;
  std::size_t num_packs = 0, num_packs_over = 0;  // those that need more than there is
  std::size_t worst_pack = 0;                     // index into packs
  std::size_t worst_rank = 0;                     // of the pipeline
  std::size_t worst_stage = 0;                    // of its stages, the one that holds most
  WorkSize worst_work;                            // of the worst pack
  std::vector<std::uint32_t> worst_samples;       // of that pack
  Bytes peak_bytes = 0;                           // there
  Bytes full_peak_bytes = 0;                      // of packs as full as other epochs may have
  Bytes capacity_bytes = 0;
  struct Part {
    std::string name;  // "parameters, gradients, optimizer", "gathered weights and gradients",
                       // "activations", "workspace", "messages"
    Bytes bytes = 0;
  };
  std::vector<Part> parts;  // of the peak; they add up to it
  /// Samples that do not fit even alone in a pack, with the bytes that they would need.
  struct Misfit {
    std::uint32_t sample = 0;
    Bytes bytes = 0;
    std::string reason;
  };
  std::vector<Misfit> misfits;
};

/// Peak memory of each pipeline rank for each pack when all micro-batches in flight are as large as
/// it: rank_state, saved activations at the schedule's fullest moment, the largest workspace, and
/// the messages' buffers (message_buffer_bytes). The capacity is that of
/// plan.prediction. It fits when every pack does, and packs as large as packed.largest too.
FitCheck check_fit(const CostModel& costs, const Plan& plan, const PackedWork& packed,
                   const SampleTable& samples);

/// check_fit of the plan on all samples of the input, against the input's memory.
FitCheck check_plan_fit(const PlanInput& input, const Plan& plan);

/// What the fullest rank of a plan holds when every pack is as large as PackedWork::largest, by the
/// rule that the planner cuts by.
struct FullPeak {
  Bytes bytes = 0;
  std::size_t rank = 0;  // of the pipeline
  bool fits = false;
};
/// Of each plan, on all samples of the input, against the input's memory.
std::vector<FullPeak> full_peaks(const PlanInput& input, const std::vector<Plan>& plans);

/// The check in a few lines for people; the samples are named by `samples`.
std::string fit_text(const FitCheck& check, const SampleTable& samples);

}  // namespace gimbal
