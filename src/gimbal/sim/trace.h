// A simulated step for people: Chrome/Perfetto trace JSON and a timeline in characters.
#pragma once

#include <string>
#include <vector>

#include "gimbal/base/json.h"
#include "gimbal/sim/pipeline.h"

namespace gimbal {

/// Trace Event Format: complete events ("ph": "X", times in microseconds, whole nanoseconds), flow
/// events from each send to its receipt, counters of memory where any is counted, one process per
/// data-parallel rank, one thread per pipeline rank, with metadata names. Memory: about 1 KB per
/// action.
OrderedJson chrome_trace(const std::vector<PipelineResult>& pipelines, const Schedule& schedule);

/// One line per pipeline rank, `width` characters of time (at least 1): the last digit of the
/// micro-batch where it computes (forward as it is, backward as a letter: a for 0 to j for 9;
/// weight gradients as a capital one), '.' where it waits; with a legend and the share of time each
/// rank is busy. A character shows what takes most of its time.
std::string ascii_timeline(const PipelineResult& result, const Schedule& schedule, int width);

}  // namespace gimbal
