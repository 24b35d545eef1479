#include "gimbal/plan/search/least_memory.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "gimbal/base/byte_text.h"
#include "gimbal/base/error.h"
#include "gimbal/plan/methods.h"
#include "gimbal/plan/partition.h"
#include "gimbal/plan/search/refine.h"
#include "gimbal/plan/text/figures.h"
#include "gimbal/sim/rank_state.h"

namespace gimbal {
namespace {

/// Bytes per device that no cut can do without, quickly.
Bytes quick_need(const CutProblem& cut) {
  Bytes need = 0;
  for (std::size_t i = 0; i < cut.costs->num_blocks(); ++i) {
    Bytes saved = cut.costs->saved(i, cut.largest, Recompute::kKeep);
    for (const Recompute level : cut.costs->levels(i)) {
      saved = std::min(saved, cut.costs->saved(i, cut.largest, level));
    }
    need += lasting_bytes(*cut.costs, i, cut.micro_batches) + saved;
  }
  return need / cut.costs->settings().mesh.pp;
}

/// Exactly: of the best cut, or of the only one without the pass that cuts. Interleaved stages each
/// have their share of the rank's memory.
Bytes least_need(const PlanInput& input, const CutProblem& cut, int stages_per_rank) {
  const PartitionProblem problem = partition_problem(cut, level_choice(input));
  const std::int64_t least = input.without.contains("partition")
                                 ? least_capacity(problem, cut_by_parameters(cut).stage_begin)
                                 : least_capacity(problem);
  return static_cast<double>(least) * stages_per_rank;
}

/// In GiB, as --memory counts, rounded up, so that what is said is enough.
std::string enough_text(Bytes bytes) {
  constexpr double kMebi = 1 << 20, kGibi = 1 << 30;
  const bool large = bytes >= kGibi;
  const double unit = large ? kGibi : kMebi;
  return concat(std::ceil(bytes / unit * 100) / 100, large ? " GiB" : " MiB");
}

}  // namespace

void throw_memory_too_small(Evaluator& evaluator, const std::vector<PackedCandidate>& candidates) {
  const PlanInput& input = evaluator.input();
  std::vector<std::pair<Bytes, const PackedCandidate*>> needs;
  for (const PackedCandidate& each : candidates) {
    needs.emplace_back(quick_need(evaluator.cut_problem(*each.candidate, *each.packed)), &each);
  }
  std::stable_sort(needs.begin(), needs.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  Bytes least = std::numeric_limits<Bytes>::infinity();
  const PackedCandidate* smallest = nullptr;
  for (const auto& [quick, each] : needs) {
    if (quick >= least) break;
    const CutProblem cut = evaluator.cut_problem(*each->candidate, *each->packed);
    const Bytes need = least_need(input, cut, each->candidate->schedule.stages_per_rank);
    if (need < least) least = need, smallest = each;
  }
  GIMBAL_CHECK(smallest != nullptr, "no candidate to fit");
  const Bytes reserved = input.profile.reserved_bytes;
  throw UserError(
      concat("no plan fits: a device has ", bytes_text(evaluator.capacity()), " for us (",
             bytes_text(reserved), " are reserved), and ", input.model.type, " on ",
             count_devices(input.devices), " needs at least ", enough_text(least + reserved),
             " per device (", to_string(smallest->candidate->mesh), ", text cap ",
             smallest->packed->caps.of(0),
             "). Use more devices, devices with more memory, smaller caps, or freeze a part."));
}

std::string count_devices(int devices) {
  return concat(devices, devices == 1 ? " device" : " devices");
}

}  // namespace gimbal
