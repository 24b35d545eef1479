// Simulated pipelines as figures: text for people, JSON for machines.
#pragma once

#include <string>
#include <vector>

#include "apps/cli/simulate/arguments.h"
#include "gimbal/base/json.h"
#include "gimbal/sim/pipeline.h"

namespace gimbal::cli {

/// Share of the ranks' time in which they do not compute.
double idle_share(const PipelineResult& result);

/// "1f1b: 4 stages on 4 ranks, 8 micro-batches".
std::string schedule_title(const Schedule& schedule);

/// One line per rank: stages, time computing and waiting, micro-batches in flight, and peak memory
/// where any is counted.
std::string rank_table(const PipelineResult& result, const Schedule& schedule,
                       const std::vector<int>& in_flight);

OrderedJson schedule_json(const Schedule& schedule, const std::vector<int>& in_flight);
OrderedJson pipeline_json(const PipelineResult& result, const Schedule& schedule);

/// Writes the trace, and the figures as `output` says: `json`, or `text` on stdout.
void write_simulation(const SimulateOutput& output, const std::vector<PipelineResult>& pipelines,
                      const Schedule& schedule, const OrderedJson& json, const std::string& text);

}  // namespace gimbal::cli
