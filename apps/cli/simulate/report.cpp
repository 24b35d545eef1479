#include "apps/cli/simulate/report.h"

#include <algorithm>
#include <iostream>
#include <numeric>

#include "gimbal/base/byte_text.h"
#include "gimbal/base/file.h"
#include "gimbal/plan/text/figures.h"
#include "gimbal/sim/trace.h"

namespace gimbal::cli {
namespace {

std::string stages_of_rank(const Schedule& schedule, std::size_t rank, const char* separator) {
  std::string text;
  for (int stage = static_cast<int>(rank); stage < schedule.num_stages;
       stage += schedule.num_ranks) {
    text += (text.empty() ? "" : separator) + std::to_string(stage);
  }
  return text;
}

std::string counted(int number, const std::string& one, const char* ending) {
  return std::to_string(number) + " " + one + (number == 1 ? "" : ending);
}

}  // namespace

double idle_share(const PipelineResult& result) {
  const Seconds busy = std::accumulate(result.busy.begin(), result.busy.end(), 0.0);
  return 1 - busy / (static_cast<double>(result.busy.size()) * result.seconds);
}

std::string schedule_title(const Schedule& schedule) {
  return schedule.name + ": " + counted(schedule.num_stages, "stage", "s") + " on " +
         counted(schedule.num_ranks, "rank", "s") + ", " +
         counted(schedule.num_micro_batches, "micro-batch", "es");
}

std::string rank_table(const PipelineResult& result, const Schedule& schedule,
                       const std::vector<int>& in_flight) {
  const bool memory = *std::max_element(result.peak_bytes.begin(), result.peak_bytes.end()) > 0;
  std::vector<std::vector<std::string>> rows = {
      {"rank", "stages", "computes", "waits", "in flight"}};
  if (memory) rows.front().push_back("peak");
  for (std::size_t rank = 0; rank < result.ranks.size(); ++rank) {
    std::string depths;
    for (std::size_t stage = rank; stage < in_flight.size(); stage += result.ranks.size()) {
      depths += (depths.empty() ? "" : ", ") + std::to_string(in_flight[stage]);
    }
    rows.push_back({std::to_string(rank), stages_of_rank(schedule, rank, ", "),
                    seconds_text(result.busy[rank]),
                    percent_text(1 - result.busy[rank] / result.seconds), depths});
    if (memory) rows.back().push_back(bytes_text(result.peak_bytes[rank]));
  }
  return aligned_rows(rows, 2);
}

OrderedJson schedule_json(const Schedule& schedule, const std::vector<int>& in_flight) {
  return {{"name", schedule.name},
          {"ranks", schedule.num_ranks},
          {"stages", schedule.num_stages},
          {"micro_batches", schedule.num_micro_batches},
          {"in_flight", in_flight}};
}

OrderedJson pipeline_json(const PipelineResult& result, const Schedule& schedule) {
  OrderedJson ranks = OrderedJson::array();
  for (std::size_t rank = 0; rank < result.ranks.size(); ++rank) {
    OrderedJson stages = OrderedJson::array();
    for (int stage = static_cast<int>(rank); stage < schedule.num_stages;
         stage += schedule.num_ranks) {
      stages.push_back(stage);
    }
    ranks.push_back({{"rank", rank},
                     {"stages", std::move(stages)},
                     {"busy_seconds", result.busy[rank]},
                     {"send_wait_seconds", result.send_wait[rank]},
                     {"peak_bytes", result.peak_bytes[rank]}});
  }
  return {{"seconds", result.seconds},
          {"critical_path_seconds", result.critical_path},
          {"busiest_rank_seconds", *std::max_element(result.busy.begin(), result.busy.end())},
          {"idle_share", idle_share(result)},
          {"ranks", std::move(ranks)}};
}

void write_simulation(const SimulateOutput& output, const std::vector<PipelineResult>& pipelines,
                      const Schedule& schedule, const OrderedJson& json, const std::string& text) {
  if (!output.trace_file.empty()) {
    write_file_atomic(output.trace_file, chrome_trace(pipelines, schedule).dump() + "\n");
  }
  if (output.json_file == "-") {
    std::cout << json.dump(2) << std::endl;
    return;
  }
  if (!output.json_file.empty()) write_file_atomic(output.json_file, json.dump(2) + "\n");
  std::cout << text << std::flush;
}

}  // namespace gimbal::cli
