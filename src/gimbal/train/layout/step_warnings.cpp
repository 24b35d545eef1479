#include "gimbal/train/layout/step_warnings.h"

#include <cmath>

#include "gimbal/base/error.h"

namespace gimbal {
namespace {

/// Of a step; above it a pipeline is worth a warning.
constexpr double kMostIdleShare = 0.4;

std::string number_of(std::int64_t count, const char* thing, const char* ending = "s") {
  return concat(count, " ", thing, count == 1 ? "" : ending);
}

std::int64_t divide_up(std::int64_t count, std::int64_t by) { return (count + by - 1) / by; }

/// Packs that give each data rank one, and each pipeline twice its ranks of micro-batches.
std::int64_t enough_packs(const BalanceConfig& balance, const MeshShape& mesh) {
  const std::int64_t ranks = mesh.data_parallel();
  const bool counts = mesh.pp > 1 && balance.micro_batches > 0;
  std::int64_t packs =
      ranks * (counts ? divide_up(2 * std::int64_t{mesh.pp}, balance.micro_batches) : 1);
  // A step is a whole number of slots.
  while (balance.packs_per_slot > 0 && packs % balance.packs_per_slot != 0) packs += ranks;
  return packs;
}

/// Of a step of equal stages and micro-batches: the time in which a pipeline rank waits.
double idle_share(const RunLayout& layout, std::int64_t micro_batches) {
  double idle = layout.mesh.pp - 1;  // in micro-batches
  if (layout.schedule == PipelineKind::kInterleaved) idle /= layout.stages_per_rank;
  if (layout.schedule == PipelineKind::kZeroBubble) idle /= 3;
  return idle / (static_cast<double>(micro_batches) + idle);
}

}  // namespace

std::vector<std::string> step_warnings(const BalanceConfig& balance, const RunLayout& layout,
                                       bool planned) {
  const MeshShape& mesh = layout.mesh;
  const std::int64_t ranks = mesh.data_parallel();
  const std::int64_t enough = enough_packs(balance, mesh);
  const std::string advice =
      planned ? concat("Plan again with --packs-per-step ", enough, ".")
              : concat("Set balance.packs_per_step=", enough, " (a step of more samples).");
  std::vector<std::string> warnings;
  if (balance.packs_per_step < ranks) {
    warnings.push_back(concat(
        "a step has ", number_of(balance.packs_per_step, "pack"), " (balance.packs_per_step) for ",
        ranks, " data ranks (dp_replicate x dp_shard): ", ranks - balance.packs_per_step,
        " of them always idle. ", advice));
  }
  // With 0 the samples of the packs decide.
  if (mesh.pp == 1 || balance.micro_batches == 0) return warnings;
  const std::int64_t micro_batches =
      divide_up(balance.packs_per_step, ranks) * balance.micro_batches;
  const double share = idle_share(layout, micro_batches);
  if (micro_batches < mesh.pp || share > kMostIdleShare) {
    warnings.push_back(concat("a pipeline of ", mesh.pp, " ranks runs ",
                              number_of(micro_batches, "micro-batch", "es"),
                              " of each data rank in a step and idles for about ",
                              std::lround(100 * share), " % of it. ", advice));
  }
  return warnings;
}

}  // namespace gimbal
