#include "gimbal/train/layout/run_layout.h"

#include <algorithm>

#include "gimbal/base/error.h"
#include "gimbal/config/enums.h"
#include "gimbal/plan/file/block_runs.h"
#include "gimbal/plan/file/parallel_section.h"
#include "gimbal/plan/methods/linear_partition.h"

namespace gimbal {
namespace {

/// "vision.embed, vision.0 .. vision.5, projector".
std::string block_list(const ModelDesc& model) {
  std::vector<std::string> names;
  for (const BlockDesc& block : model.blocks) names.push_back(block.name);
  std::string text;
  for (const std::string& run : block_runs(names)) text += (text.empty() ? "" : ", ") + run;
  return text;
}

std::vector<std::size_t> given_cuts(const std::vector<std::string>& starts,
                                    const ModelDesc& model) {
  std::vector<std::size_t> cuts{0};
  for (const std::string& name : starts) {
    const auto it = std::ranges::find_if(
        model.blocks, [&](const BlockDesc& block) { return block.name == name; });
    GIMBAL_USER_CHECK(it != model.blocks.end(), "parallel.stage_starts: the model has no block '",
                      name, "'; its blocks are ", block_list(model));
    const auto place = static_cast<std::size_t>(it - model.blocks.begin());
    GIMBAL_USER_CHECK(place > 0, "parallel.stage_starts: '", name,
                      "' is the first block, where the first stage starts anyway. Name the first "
                      "block of each stage after it.");
    GIMBAL_USER_CHECK(place > cuts.back(), "parallel.stage_starts: '", name,
                      "' must come after the start of the stage before in the order of the model");
    cuts.push_back(place);
  }
  cuts.push_back(model.blocks.size());
  return cuts;
}

/// FLOPs of forward, backward and recompute of each block; a little for blocks without products.
std::vector<double> block_work(const ModelDesc& model, const LayoutWork& work) {
  const std::vector<GradientNeed> needs = gradient_needs(model, work.frozen);
  std::vector<double> flops;
  for (std::size_t i = 0; i < model.blocks.size(); ++i) {
    const BlockDesc& block = model.blocks[i];
    double sum = forward_flops(block, work.mean) + backward_flops(block, work.mean, needs[i]);
    if (needs[i].weights || needs[i].inputs)
      sum += recompute_flops(block, work.mean, work.levels[i]);
    flops.push_back(sum + 1);
  }
  return flops;
}

}  // namespace

std::vector<BlockRange> RunLayout::stages_of(int pp_rank) const {
  std::vector<BlockRange> own;
  for (std::size_t s = 0; s < stages.size(); ++s) {
    if (static_cast<int>(s) % mesh.pp == pp_rank) own.push_back(stages[s]);
  }
  return own;
}

std::vector<bool> RunLayout::blocks_of(int pp_rank, std::size_t num_blocks) const {
  std::vector<bool> own(num_blocks, false);
  for (const BlockRange& range : stages_of(pp_rank)) {
    for (std::size_t i = range.begin; i < range.end; ++i) own[i] = true;
  }
  return own;
}

int RunLayout::rank_of_block(std::size_t block) const {
  for (std::size_t s = 0; s < stages.size(); ++s) {
    if (block < stages[s].end) return static_cast<int>(s) % mesh.pp;
  }
  throw InternalError(concat("block ", block, " is in no stage"));
}

std::size_t RunLayout::padded_micro_batches(std::size_t count) const {
  // Interleaved stages run in rounds of as many micro-batches as there are ranks.
  if (schedule != PipelineKind::kInterleaved || mesh.pp == 1) return count;
  const auto ranks = static_cast<std::size_t>(mesh.pp);
  return (count + ranks - 1) / ranks * ranks;
}

Schedule RunLayout::make(std::size_t micro_batches) const {
  ScheduleShape shape;
  // Without a pipeline there is nothing to order: one micro-batch at a time.
  shape.kind = stages.size() == 1 ? PipelineKind::kOneFOneB : schedule;
  shape.ranks = mesh.pp;
  shape.stages_per_rank = stages_per_rank;
  shape.micro_batches = static_cast<int>(micro_batches);
  return make_schedule(shape);
}

RunLayout make_run_layout(const ParallelConfig& config, const ModelDesc& model,
                          const LayoutWork& work, int world_size, const std::string& model_folder) {
  RunLayout layout;
  layout.mesh = mesh_of_processes(config, world_size);
  const std::string objection = heads_objection(
      {model.text_heads, model.text_kv_heads, model.vision_heads}, layout.mesh.tp, layout.mesh.sp);
  GIMBAL_USER_CHECK(objection.empty(), "parallel.tp and parallel.sp do not fit the model in '",
                    model_folder, "': ", objection);
  layout.schedule = pipeline_kind_of(config.schedule);
  layout.stages_per_rank = static_cast<int>(config.stages_per_rank);
  layout.policy =
      config.weights == WeightsChoice::kReshard ? StorePolicy::kReshard : StorePolicy::kKeepWeights;
  layout.prefetch = config.prefetch;
  const std::int64_t num_stages = config.pp * config.stages_per_rank;
  GIMBAL_USER_CHECK(num_stages <= static_cast<std::int64_t>(model.blocks.size()),
                    "parallel: ", num_stages, " stages are more than the model's ",
                    model.blocks.size(), " blocks. Lower parallel.pp or parallel.stages_per_rank.");
  const std::vector<std::size_t> cuts =
      config.stage_starts.empty()
          ? balanced_cuts(block_work(model, work), static_cast<int>(num_stages))
          : given_cuts(config.stage_starts, model);
  for (std::size_t s = 0; s + 1 < cuts.size(); ++s) layout.stages.push_back({cuts[s], cuts[s + 1]});
  GIMBAL_CHECK_EQ(layout.stages.size(), static_cast<std::size_t>(num_stages));
  return layout;
}

std::vector<std::string> layout_notes(const ParallelConfig& config, const MeshShape& mesh) {
  const ParallelConfig defaults;
  std::vector<std::string> notes;
  if (mesh.pp == 1 && config.stages_per_rank > 1) {
    notes.push_back(concat("parallel.stages_per_rank: ", config.stages_per_rank,
                           " saves nothing: parallel.pp is 1, and each process runs all stages"));
  } else if (mesh.pp == 1 && config.schedule != defaults.schedule) {
    notes.push_back(concat("parallel.schedule: ", enum_name(config.schedule),
                           " has no effect: parallel.pp is 1, and a single stage has no order"));
  }
  if (mesh.dp_shard == 1 && config.weights != defaults.weights) {
    notes.push_back(concat("parallel.weights: ", enum_name(config.weights),
                           " has no effect: parallel.dp_shard is 1, and all weights are whole"));
  }
  if (mesh.dp_shard == 1 && config.prefetch != defaults.prefetch) {
    notes.push_back(concat("parallel.prefetch: ", config.prefetch ? "true" : "false",
                           " has no effect: parallel.dp_shard is 1, and no weights are gathered"));
  }
  return notes;
}

}  // namespace gimbal
