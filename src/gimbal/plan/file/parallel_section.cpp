#include "gimbal/plan/file/parallel_section.h"

#include "gimbal/base/error.h"
#include "gimbal/config/enums.h"

namespace gimbal {
namespace {

std::vector<std::string> stage_starts_of(const Plan& plan) {
  std::vector<std::string> starts;
  for (std::size_t s = 1; s < plan.layout.num_stages(); ++s)
    starts.push_back(plan.blocks.at(plan.layout.stage_begin[s]));
  return starts;
}

std::string starts_text(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text.empty() ? "empty" : text;
}

/// "parallel.dp_shard" -> "--dp-shard".
std::string option_of_key(const std::string& key) {
  std::string option = "--" + key.substr(key.find('.') + 1);
  for (char& c : option) {
    if (c == '_') c = '-';
  }
  return option;
}

}  // namespace

PipelineKind pipeline_kind_of(PipelineChoice choice) {
  switch (choice) {
    case PipelineChoice::kGpipe:
      return PipelineKind::kGpipe;
    case PipelineChoice::kOneFOneB:
      return PipelineKind::kOneFOneB;
    case PipelineChoice::kInterleaved:
      return PipelineKind::kInterleaved;
    case PipelineChoice::kZeroBubble:
      return PipelineKind::kZeroBubble;
  }
  throw InternalError("a parallel.schedule without a pipeline");
}

PipelineChoice pipeline_choice_of(PipelineKind kind) {
  switch (kind) {
    case PipelineKind::kGpipe:
      return PipelineChoice::kGpipe;
    case PipelineKind::kOneFOneB:
      return PipelineChoice::kOneFOneB;
    case PipelineKind::kInterleaved:
      return PipelineChoice::kInterleaved;
    case PipelineKind::kZeroBubble:
      return PipelineChoice::kZeroBubble;
  }
  throw InternalError("a pipeline without a parallel.schedule");
}

ParallelConfig parallel_of_plan(const Plan& plan, ParallelConfig config) {
  config.pp = plan.mesh.pp;
  config.dp_replicate = plan.mesh.dp_replicate;
  config.dp_shard = plan.mesh.dp_shard;
  config.sp = plan.mesh.sp;
  config.tp = plan.mesh.tp;
  config.schedule = pipeline_choice_of(plan.schedule.kind);
  config.stages_per_rank = plan.schedule.stages_per_rank;
  config.stage_starts = stage_starts_of(plan);
  config.weights =
      plan.shard_policy == ShardPolicy::kReshard ? WeightsChoice::kReshard : WeightsChoice::kKeep;
  return config;
}

std::vector<ParallelConflict> parallel_conflicts(const Plan& plan, const ParallelConfig& config,
                                                 const std::map<std::string, std::string>& given) {
  std::vector<ParallelConflict> conflicts;
  const ParallelConfig planned = parallel_of_plan(plan, config);
  const auto compare = [&](const std::string& key, const auto& asked, const auto& has,
                           const auto& text, const std::string& option) {
    if (!given.contains(key) || asked == has) return;
    conflicts.push_back({key, text(asked), text(has), option});
  };
  const auto number = [](std::int64_t value) { return std::to_string(value); };
  const auto compare_axis = [&](const std::string& key, std::int64_t asked, std::int64_t has) {
    compare(key, asked, has, number, concat(option_of_key(key), " ", asked));
  };
  compare_axis("parallel.pp", config.pp, planned.pp);
  // 0 stands for what the other axes leave, which is the plan's number.
  if (config.dp_replicate != 0)
    compare_axis("parallel.dp_replicate", config.dp_replicate, planned.dp_replicate);
  compare_axis("parallel.dp_shard", config.dp_shard, planned.dp_shard);
  compare_axis("parallel.sp", config.sp, planned.sp);
  compare_axis("parallel.tp", config.tp, planned.tp);
  const auto name = [](auto choice) { return std::string(enum_name(choice)); };
  if (plan.mesh.pp > 1) {
    compare("parallel.schedule", config.schedule, planned.schedule, name,
            concat("--schedule ", enum_name(config.schedule)));
    // The option is for several stages only; the key says that there is one.
    compare("parallel.stages_per_rank", config.stages_per_rank, planned.stages_per_rank, number,
            concat(config.stages_per_rank > 1 ? "--stages-per-rank " : "parallel.stages_per_rank=",
                   config.stages_per_rank));
  }
  compare("parallel.stage_starts", config.stage_starts, planned.stage_starts, starts_text, "");
  if (plan.mesh.dp_shard > 1) {
    compare("parallel.weights", config.weights, planned.weights, name,
            concat("parallel.weights=", enum_name(config.weights)));
  }
  return conflicts;
}

}  // namespace gimbal
